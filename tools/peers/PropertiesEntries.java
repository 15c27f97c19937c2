/*
 * Java's own reading of Properties files, as an oracle: standard input has a file a line, in hex;
 * standard output has a line for each, its entries sorted, "key=value" in hex of UTF-16, or "no".
 */

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.Properties;
import java.util.TreeMap;

public final class PropertiesEntries {
    private static String hex(Object text) {
        var out = new StringBuilder();
        ((String) text).chars().forEach(unit -> out.append(String.format("%04x", unit)));
        return out.toString();
    }

    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            var properties = new Properties();
            try {
                properties.load(new ByteArrayInputStream(HexFormat.of().parseHex(line)));
            } catch (IllegalArgumentException refused) {
                System.out.println("no");
                continue;
            }
            var entries = new TreeMap<String, String>();
            properties.forEach((key, value) -> entries.put(hex(key), hex(value)));
            var out = new StringBuilder("yes");
            entries.forEach((key, value) -> out.append(' ').append(key).append('=').append(value));
            System.out.println(out);
        }
    }
}
