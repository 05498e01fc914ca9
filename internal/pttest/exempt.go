package pttest

import (
	"math/bits"
	"strings"
)

// Exempt returns the first published rule by which a client's first packet is exempt from
// blocking as fully encrypted traffic, from Ex1 to Ex5, or "" (Wu et al., USENIX Security
// 2023, section 4).
func Exempt(payload []byte) string {
	ones, printable, run, longest := 0, 0, 0, 0
	for _, b := range payload {
		ones += bits.OnesCount8(b)
		if isPrintable(b) {
			printable++
			run++
		} else {
			run = 0
		}
		longest = max(longest, run)
	}
	perByte := float64(ones) / float64(len(payload))
	switch {
	case perByte <= 3.4 || perByte >= 4.6:
		return "Ex1"
	case len(payload) >= 6 && allPrintable(payload[:6]):
		return "Ex2"
	case 2*printable > len(payload):
		return "Ex3"
	case longest > 20:
		return "Ex4"
	case beginsLikeTLSOrHTTP(payload):
		return "Ex5"
	}
	return ""
}

func isPrintable(b byte) bool { return b >= 0x20 && b <= 0x7e }

func allPrintable(b []byte) bool {
	for _, c := range b {
		if !isPrintable(c) {
			return false
		}
	}
	return true
}

func beginsLikeTLSOrHTTP(b []byte) bool {
	for _, method := range []string{"GET ", "PUT ", "POST ", "HEAD "} {
		if strings.HasPrefix(string(b), method) {
			return true
		}
	}
	return len(b) >= 3 && (b[0] == 0x16 || b[0] == 0x17) && b[1] == 3 && b[2] <= 9
}
