package client

import (
	"bytes"
	"io"
	"net"
	"testing"
)

func TestReadSOCKS(t *testing.T) {
	granted := "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	for name, test := range map[string]struct {
		say  string
		hear string
		ok   bool
	}{
		"IPv4":              {"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x09", "\x05\x00" + granted, true},
		"IPv6":              {"\x05\x01\x00\x05\x01\x00\x04abcdefghijklmnop\x00\x09", "\x05\x00" + granted, true},
		"name":              {"\x05\x01\x00\x05\x01\x00\x03\x01x\x00\x09", "\x05\x00" + granted, true},
		"password":          {"\x05\x01\x02\x01\x01u\x02pw\x05\x01\x00\x03\x01x\x00\x09", "\x05\x02\x01\x00" + granted, true},
		"empty password":    {"\x05\x01\x02\x01\x00\x00\x05\x01\x00\x03\x01x\x00\x09", "\x05\x02\x01\x00" + granted, true},
		"several methods":   {"\x05\x03\x01\x02\x00\x05\x01\x00\x03\x01x\x00\x09", "\x05\x00" + granted, true},
		"SOCKS4":            {"\x04\x01\x00\x09\x7f\x00\x00\x01\x00", "", false},
		"unknown method":    {"\x05\x01\x01", "\x05\xff", false},
		"no method":         {"\x05\x00", "\x05\xff", false},
		"unknown address":   {"\x05\x01\x00\x05\x01\x00\x02", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00", false},
		"unknown command":   {"\x05\x01\x00\x05\x02\x00\x03\x01x\x00\x09", "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00", false},
		"cut in methods":    {"\x05\x02\x00", "", false},
		"cut in password":   {"\x05\x01\x02\x01\x01u\x02p", "", false},
		"cut in address":    {"\x05\x01\x00\x05\x01\x00\x01\x7f", "", false},
		"cut before a name": {"\x05\x01\x00\x05\x01\x00\x03", "", false},
	} {
		near, far := net.Pipe()
		ended := make(chan bool)
		go func() {
			r, err := readSOCKS(far)
			if err == nil {
				err = r.Grant(nil)
			}
			far.Close()
			ended <- err == nil
		}()
		go func() {
			// It may be refused before its end.
			io.WriteString(near, test.say)
			if test.hear == "" { // what is cut ends here
				near.Close()
			}
		}()
		var heard bytes.Buffer
		io.Copy(&heard, near)
		near.Close()
		if ok := <-ended; ok != test.ok || test.hear != "" && heard.String() != test.hear {
			t.Errorf("%s: %v, %q; want %v, %q", name, ok, heard.String(), test.ok, test.hear)
		}
	}
}
