// Command peers runs one workload of the benchmark harness on a log or store written in Go.
//
//	peers --subject raft-wal|tidwall|bbolt --dir D --payload FILE --record-bytes N --records N
//	      --batch-records N --durability process|group|record
//	      --operation append|scan|scan_touched|lookup [--lookups FILE] [--rounds N]
//
// It promises one line of JSON per round on standard output: wall seconds and process CPU seconds
// (user and system, all threads) around the workload alone, records, bytes, and the CRC-32 of every
// payload byte read back. Opening, filling before a read, checking and closing are outside the
// measurement. Each round uses a fresh directory below D.
//
// A subject is a store: open, append one group, read one record, scan. Records carry indexes from
// 1, as all three libraries count. Record i of the workload is record i mod p of the payload file,
// which holds p records.
//
// What it leaves to others: making the payload and the order of the lookups, interleaving, and
// every comparison.
package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// store is what a subject has to offer. All of it runs on one goroutine.
type store interface {
	// appendGroup stores the values under the indexes first, first+1, ... with one call, or one sync,
	// for all of them.
	appendGroup(first uint64, values [][]byte) error
	// scan hands over the values of the indexes 1 to last in order; a value is valid until visit
	// returns.
	scan(last uint64, visit func(value []byte)) error
	// lookup hands over one value; it is valid until visit returns.
	lookup(index uint64, visit func(value []byte)) error
	close() error
}

// opener makes a store in an empty directory; synced says whether a group must survive the loss of
// power.
type opener func(directory string, synced bool) (store, error)

var openers = map[string]opener{
	"raft-wal": openRaftWAL,
	"tidwall":  openTidwall,
	"bbolt":    openBolt,
}

type workload struct {
	open        opener
	directory   string
	pool        [][]byte
	records     int
	batch       int
	recordBytes int
	synced      bool
	operation   string
	lookups     []uint64
}

type result struct {
	Round      int     `json:"round"`
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`
	Records    int     `json:"records"`
	Bytes      int     `json:"bytes"`
	Checksum   uint32  `json:"payload_crc32"`
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}

// measured runs work between two readings of both clocks.
func (r *result) measured(work func() error) error {
	cpu := cpuSeconds()
	start := time.Now()
	err := work()
	r.Seconds = time.Since(start).Seconds()
	r.CPUSeconds = cpuSeconds() - cpu
	return err
}

func (w *workload) appendAll(s store) error {
	next := 0
	for done := 0; done < w.records; done += w.batch {
		if err := s.appendGroup(uint64(done)+1, w.pool[next:next+w.batch]); err != nil {
			return err
		}
		// The pool holds whole groups, so a group never wraps.
		if next += w.batch; next+w.batch > len(w.pool) {
			next = 0
		}
	}
	return nil
}

func (w *workload) checksum(s store, r *result) error {
	r.Checksum = 0
	visit := func(value []byte) { r.Checksum = crc32.Update(r.Checksum, crc32.IEEETable, value) }
	if w.operation != "lookup" {
		return s.scan(uint64(w.records), visit)
	}
	for _, offset := range w.lookups {
		if err := s.lookup(offset+1, visit); err != nil {
			return err
		}
	}
	return nil
}

func (w *workload) read(s store, r *result) error {
	r.Records, r.Bytes, r.Checksum = 0, 0, 0
	count := func(value []byte) {
		r.Records++
		r.Bytes += len(value)
	}
	switch w.operation {
	case "scan":
		return s.scan(uint64(w.records), count)
	case "scan_touched":
		return s.scan(uint64(w.records), func(value []byte) {
			count(value)
			r.Checksum = crc32.Update(r.Checksum, crc32.IEEETable, value)
		})
	case "lookup":
		for _, offset := range w.lookups {
			if err := s.lookup(offset+1, count); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("unknown operation %q", w.operation)
}

func (w *workload) round(number int) (result, error) {
	r := result{Round: number}
	directory := filepath.Join(w.directory, fmt.Sprintf("round-%d", number))
	if err := os.Mkdir(directory, 0o755); err != nil {
		return r, err
	}
	defer os.RemoveAll(directory)
	s, err := w.open(directory, w.synced)
	if err != nil {
		return r, err
	}
	defer s.close()
	if w.operation == "append" {
		if err := r.measured(func() error { return w.appendAll(s) }); err != nil {
			return r, err
		}
		r.Records, r.Bytes = w.records, w.records*w.recordBytes
		return r, w.checksum(s, &r)
	}
	if err := w.appendAll(s); err != nil {
		return r, err
	}
	// One untimed pass, so that the measured one is warm.
	if err := w.read(s, &r); err != nil {
		return r, err
	}
	if err := r.measured(func() error { return w.read(s, &r) }); err != nil {
		return r, err
	}
	if w.operation == "scan_touched" {
		return r, nil
	}
	return r, w.checksum(s, &r)
}

func parse() (*workload, int, error) {
	subject := flag.String("subject", "", "which library")
	directory := flag.String("dir", "", "an empty directory")
	payload := flag.String("payload", "", "file with the pool of records")
	lookups := flag.String("lookups", "", "file of offsets to look up, little-endian 64-bit words")
	recordBytes := flag.Int("record-bytes", 100, "bytes in one record")
	records := flag.Int("records", 1000, "records in all")
	batch := flag.Int("batch-records", 1, "records in one group")
	durability := flag.String("durability", "process", "process, group or record")
	operation := flag.String("operation", "append", "append, scan, scan_touched or lookup")
	rounds := flag.Int("rounds", 1, "measured rounds")
	flag.Parse()

	open, known := openers[*subject]
	if !known {
		return nil, 0, fmt.Errorf("unknown subject %q", *subject)
	}
	bytes, err := os.ReadFile(*payload)
	if err != nil {
		return nil, 0, err
	}
	w := &workload{
		open: open, directory: *directory, records: *records, batch: *batch, recordBytes: *recordBytes,
		synced: *durability != "process", operation: *operation,
	}
	for i := 0; i+*recordBytes <= len(bytes); i += *recordBytes {
		w.pool = append(w.pool, bytes[i:i+*recordBytes:i+*recordBytes])
	}
	if len(w.pool) == 0 || len(w.pool)%*batch != 0 {
		return nil, 0, fmt.Errorf("the payload must hold a whole number of groups")
	}
	if *lookups != "" {
		words, err := os.ReadFile(*lookups)
		if err != nil {
			return nil, 0, err
		}
		for ; len(words) >= 8; words = words[8:] {
			w.lookups = append(w.lookups, binary.LittleEndian.Uint64(words))
		}
	}
	return w, *rounds, nil
}

func run() error {
	w, rounds, err := parse()
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for number := 0; number < rounds; number++ {
		r, err := w.round(number)
		if err != nil {
			return err
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
