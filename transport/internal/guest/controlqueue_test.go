package guest

import (
	"bytes"
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"waterproxy/internal/records"
	"waterproxy/transport/internal/stream"
)

// readRecords reads once, with a buffer for size bytes.
func readRecords(t *testing.T, q *controlQueue, size int) (rs []records.Record, err error) {
	t.Helper()
	buf := make([]byte, size)
	n, err := q.Read([][]byte{buf[:size/2], buf[size/2:]})
	for rest := buf[:n]; len(rest) > 0; {
		var r records.Record
		var perr error
		if r, rest, perr = records.Parse(rest); perr != nil {
			t.Fatalf("a read of %d bytes ends within a record", n)
		}
		rs = append(rs, r)
	}
	return rs, err
}

// TestControlQueueReads: records come in order and whole, whatever the buffer.
func TestControlQueueReads(t *testing.T) {
	q := &controlQueue{}
	if _, err := readRecords(t, q, 4096); err != stream.ErrWouldBlock {
		t.Errorf("reading nothing: %v", err)
	}
	wake := stream.NewSignal()
	if q.Await(stream.In, wake) {
		t.Error("an empty queue is ready")
	}
	const count = 1000
	for i := range uint32(count) {
		q.push(records.Record{Kind: records.Open, ID: i, Payload: bytes.Repeat([]byte{'x'}, int(i%50))})
	}
	select {
	case <-wake:
	default:
		t.Error("nobody was woken")
	}
	if _, err := readRecords(t, q, 19); toErrno(err) != eInval {
		t.Errorf("a buffer in which no record fits: %v", err)
	}
	var next uint32
	for size := 70; next < count; size += 13 {
		rs, err := readRecords(t, q, size)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			if r.ID != next || len(r.Payload) != int(next%50) {
				t.Fatalf("record %d has %d bytes, want record %d", r.ID, len(r.Payload), next)
			}
			next++
		}
	}
	q.push(records.Record{Kind: records.End})
	q.end()
	if rs, err := readRecords(t, q, 4096); len(rs) != 1 || err != nil {
		t.Errorf("before the end: %v, %v", rs, err)
	}
	if _, err := readRecords(t, q, 4096); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// TestControlQueueWrites: one write carries any number of records, and stops at what
// is none.
func TestControlQueueWrites(t *testing.T) {
	var got []uint32
	refused := errors.New("refused")
	q := &controlQueue{handle: func(r records.Record) error {
		if r.ID == 99 {
			return refused
		}
		got = append(got, r.ID)
		return nil
	}}
	record := func(id uint32) []byte { return records.Record{Kind: records.Ready, ID: id}.Append(nil) }
	for _, test := range []struct {
		bufs [][]byte
		err  error
		seen int
	}{
		{[][]byte{record(1)}, nil, 1},
		{[][]byte{append(record(2), record(3)...)}, nil, 2},
		{[][]byte{record(4)[:7], record(4)[7:], record(5)}, nil, 2},
		{[][]byte{nil}, nil, 0},
		{[][]byte{append(record(6), 1)}, syscall.EINVAL, 1},
		{[][]byte{record(7)[:19]}, syscall.EINVAL, 0},
		{[][]byte{append(record(99), record(8)...)}, refused, 0},
	} {
		got = nil
		n, err := q.Write(test.bufs)
		if err != test.err || len(got) != test.seen || err == nil && n != 20*test.seen {
			t.Errorf("%x: %d bytes, %v, records %v", test.bufs, n, err, got)
		}
	}
}

// TestControlQueuePatience: a module that does not read is given up, and one that
// does is not, however late.
func TestControlQueuePatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		given := make(chan string, 10)
		q := &controlQueue{abort: func(why string) { given <- why }, patience: 10 * time.Second}
		q.push(records.Record{Kind: records.Open})
		for range 10 { // late, and never all
			q.push(records.Record{Kind: records.Open})
			time.Sleep(q.patience - time.Second)
			if rs, err := readRecords(t, q, 39); len(rs) != 1 || err != nil {
				t.Fatal(rs, err)
			}
		}
		if rs, err := readRecords(t, q, 39); len(rs) != 1 || err != nil {
			t.Fatal(rs, err)
		}
		time.Sleep(10 * q.patience) // nothing waits for it
		if len(given) > 0 {
			t.Errorf("a module that reads is given up: it %s", <-given)
		}
		q.push(records.Record{Kind: records.Open})
		time.Sleep(q.patience - time.Second)
		if len(given) > 0 {
			t.Error("it was given up too soon")
		}
		time.Sleep(2 * time.Second)
		if len(given) != 1 {
			t.Errorf("it was given up %d times", len(given))
		}
	})
}

// TestControlQueueUnread: what waits for a module that does not read is bounded.
func TestControlQueueUnread(t *testing.T) {
	given := 0
	q := &controlQueue{abort: func(string) { given++ }}
	payload := make([]byte, records.MaxOpen)
	for range 2 * maxUnread / len(payload) {
		q.push(records.Record{Kind: records.Open, Payload: payload})
	}
	if given != 1 {
		t.Errorf("given up %d times", given)
	}
	if n := len(q.records); n > maxUnread+records.MaxRecord {
		t.Errorf("%d bytes wait", n)
	}
}
