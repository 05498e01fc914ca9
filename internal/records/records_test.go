package records

import (
	"bytes"
	"testing"
)

func TestRecords(t *testing.T) {
	records := []Record{
		{Kind: Open, ID: 7, Value: 5, Payload: OpenPayload(Target("tcp", "192.0.2.1:443"), "k=v")},
		{Kind: Dialed, Request: 1 << 31, Value: -14},
		{Kind: Accept, Flags: Multiplexed, ID: 1<<32 - 1, Request: 3},
	}
	var b []byte
	for _, r := range records {
		b = r.Append(b)
	}
	for _, want := range records {
		r, rest, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.Payload, want.Payload) {
			t.Errorf("payload %q, want %q", r.Payload, want.Payload)
		}
		r.Payload, want.Payload, b = nil, nil, rest
		if r.Kind != want.Kind || r.Flags != want.Flags || r.ID != want.ID || r.Request != want.Request || r.Value != want.Value {
			t.Errorf("got %+v, want %+v", r, want)
		}
	}
	if len(b) > 0 {
		t.Errorf("%d bytes are left", len(b))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Record{Kind: Ready, ID: 1}.Append(nil))
	f.Add(Record{Kind: Fail, Payload: make([]byte, MaxRecord)}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := Parse(b)
		if err != nil {
			return
		}
		if again := append(r.Append(nil), rest...); !bytes.Equal(again, b) {
			t.Errorf("%x parses as a record that is written as %x", b, again)
		}
	})
}
