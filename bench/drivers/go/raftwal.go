package main

import (
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// raftWAL is hashicorp/raft-wal with its defaults: segments of 64 MiB, a CRC over each commit, a
// sync for each StoreLogs. It has no unsynced mode, so it stands in the power-safe tables only.
// What it stores is a raft.Log, whose index, term, type and time it encodes beside the data; that
// is its interface, and its cost.
type raftWAL struct {
	log     *wal.WAL
	entries []raft.Log
	group   []*raft.Log
}

func openRaftWAL(directory string, _ bool) (store, error) {
	log, err := wal.Open(directory, wal.WithLogger(hclog.NewNullLogger()))
	if err != nil {
		return nil, err
	}
	return &raftWAL{log: log}, nil
}

func (r *raftWAL) appendGroup(first uint64, values [][]byte) error {
	// StoreLogs encodes before it returns and keeps nothing, so the entries are used again.
	if len(r.entries) != len(values) {
		r.entries = make([]raft.Log, len(values))
		r.group = make([]*raft.Log, len(values))
		for i := range r.entries {
			r.group[i] = &r.entries[i]
		}
	}
	for i, value := range values {
		r.entries[i] = raft.Log{Index: first + uint64(i), Term: 1, Type: raft.LogCommand, Data: value}
	}
	return r.log.StoreLogs(r.group)
}

func (r *raftWAL) scan(last uint64, visit func(value []byte)) error {
	for index := uint64(1); index <= last; index++ {
		if err := r.lookup(index, visit); err != nil {
			return err
		}
	}
	return nil
}

func (r *raftWAL) lookup(index uint64, visit func(value []byte)) error {
	var entry raft.Log
	if err := r.log.GetLog(index, &entry); err != nil {
		return err
	}
	visit(entry.Data)
	return nil
}

func (r *raftWAL) close() error { return r.log.Close() }
