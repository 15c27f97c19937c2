package main

import (
	"encoding/binary"
	"fmt"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// bolt is go.etcd.io/bbolt: one bucket, keys of eight big-endian bytes, one transaction for a
// group, a FillPercent of 1.0 as its documentation advises for keys in order, NoSync for the
// process class. Pages carry no checksum, except the two meta pages.
type bolt struct {
	db   *bbolt.DB
	keys []byte
	read *bbolt.Tx
}

var bucketName = []byte("log")

func openBolt(directory string, synced bool) (store, error) {
	options := *bbolt.DefaultOptions
	options.NoSync = !synced
	db, err := bbolt.Open(filepath.Join(directory, "log.bolt"), 0o644, &options)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bucketName)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &bolt{db: db}, nil
}

func (b *bolt) appendGroup(first uint64, values [][]byte) error {
	// A key must stay as it is until its transaction has ended.
	if len(b.keys) != 8*len(values) {
		b.keys = make([]byte, 8*len(values))
	}
	return b.db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(bucketName)
		bucket.FillPercent = 1.0
		for i, value := range values {
			key := b.keys[8*i : 8*i+8]
			binary.BigEndian.PutUint64(key, first+uint64(i))
			if err := bucket.Put(key, value); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bolt) scan(last uint64, visit func(value []byte)) error {
	return b.db.View(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket(bucketName).Cursor()
		count := uint64(0)
		for key, value := cursor.First(); key != nil; key, value = cursor.Next() {
			visit(value)
			count++
		}
		if count != last {
			return fmt.Errorf("%d records instead of %d", count, last)
		}
		return nil
	})
}

// lookup keeps one read transaction open over all lookups, as a reader that does many would.
func (b *bolt) lookup(index uint64, visit func(value []byte)) error {
	if b.read == nil {
		tx, err := b.db.Begin(false)
		if err != nil {
			return err
		}
		b.read = tx
	}
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], index)
	value := b.read.Bucket(bucketName).Get(key[:])
	if value == nil {
		return fmt.Errorf("record %d is not there", index)
	}
	visit(value)
	return nil
}

func (b *bolt) close() error {
	if b.read != nil {
		if err := b.read.Rollback(); err != nil {
			return err
		}
	}
	return b.db.Close()
}
