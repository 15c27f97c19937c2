package main

import (
	"path/filepath"

	"github.com/tidwall/wal"
)

// tidwall is tidwall/wal with its defaults (segments of 20 MB, binary format, no checksum), except
// NoCopy, which lets a read return its own memory, NoSync for the process class, and a cache for all
// segments: with its default of two, a random read loads and parses 20 MB, ten milliseconds each. A batch is one
// WriteBatch, which copies the data.
type tidwall struct {
	log   *wal.Log
	batch wal.Batch
}

func openTidwall(directory string, synced bool) (store, error) {
	options := *wal.DefaultOptions
	options.NoSync = !synced
	options.NoCopy = true
	options.SegmentCacheSize = 256
	log, err := wal.Open(filepath.Join(directory, "log"), &options)
	if err != nil {
		return nil, err
	}
	return &tidwall{log: log}, nil
}

func (t *tidwall) appendGroup(first uint64, values [][]byte) error {
	if len(values) == 1 {
		return t.log.Write(first, values[0])
	}
	t.batch.Clear()
	for i, value := range values {
		t.batch.Write(first+uint64(i), value)
	}
	return t.log.WriteBatch(&t.batch)
}

func (t *tidwall) scan(last uint64, visit func(value []byte)) error {
	for index := uint64(1); index <= last; index++ {
		if err := t.lookup(index, visit); err != nil {
			return err
		}
	}
	return nil
}

func (t *tidwall) lookup(index uint64, visit func(value []byte)) error {
	value, err := t.log.Read(index)
	if err != nil {
		return err
	}
	visit(value)
	return nil
}

func (t *tidwall) close() error { return t.log.Close() }
