// Package payload has what connections of transports have in common that open many frames,
// chunks or records at once.
package payload

import "io"

// Batch waits for bytes from the network, opens what has come, and calls use with all the
// payload in it, if there is any. The payload is use's until it returns. The error is io.EOF at
// the end of the stream.
type Batch func(use func(payload []byte) error) error

// Reader hands payload on. It holds no buffer while nothing comes. It is for one goroutine at
// a time.
type Reader struct {
	// Left is payload that has come and that nobody has taken yet; nil if there is none.
	Left []byte
}

// WriteTo writes all payload to w until the end of the stream, which is no error; see
// io.WriterTo.
func (r *Reader) WriteTo(w io.Writer, batch Batch) (total int64, err error) {
	give := func(payload []byte) error {
		n, err := w.Write(payload)
		total += int64(n)
		return err
	}
	if first := r.Left; len(first) > 0 {
		r.Left = nil
		if err := give(first); err != nil {
			return total, err
		}
	}
	for err == nil {
		err = batch(give)
	}
	if err == io.EOF {
		err = nil
	}
	return total, err
}

// Read reads some payload; see io.Reader. What has come before an error is read first.
func (r *Reader) Read(p []byte, batch Batch) (int, error) {
	for len(r.Left) == 0 {
		if err := r.Fill(batch); err != nil && len(r.Left) == 0 {
			return 0, err
		}
	}
	n := copy(p, r.Left)
	if r.Left = r.Left[n:]; len(r.Left) == 0 {
		r.Left = nil
	}
	return n, nil
}

// Fill adds one batch to Left.
func (r *Reader) Fill(batch Batch) error { return batch(r.Keep) }

// Keep adds payload to Left. There is no error.
func (r *Reader) Keep(payload []byte) error {
	r.Left = append(r.Left, payload...)
	return nil
}

// Burst is how many bytes of payload are sealed and written at once.
const Burst = 256 << 10

// InBursts calls write with all of p, Burst bytes at most at a time, and returns how many
// bytes went before an error.
func InBursts(p []byte, write func(part []byte) error) (total int, err error) {
	for len(p) > 0 {
		n := min(len(p), Burst)
		if err := write(p[:n]); err != nil {
			return total, err
		}
		total += n
		p = p[n:]
	}
	return total, nil
}
