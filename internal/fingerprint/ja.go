package fingerprint

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// isGREASE reports whether a number is one of those that mean nothing (RFC 8701): a browser
// draws one for each connection, so no fingerprint counts them.
func isGREASE(n uint16) bool { return n&0x0f0f == 0x0a0a && n>>8 == n&0xff }

func withoutGREASE(list []uint16) []uint16 {
	return slices.DeleteFunc(slices.Clone(list), isGREASE)
}

func (h *ClientHello) extensionTypes() []uint16 {
	types := make([]uint16, len(h.Extensions))
	for i, e := range h.Extensions {
		types[i] = e.Type
	}
	return withoutGREASE(types)
}

// JA3Text returns the text of which JA3 is the hash: version, ciphers, extensions, groups and
// point formats, decimal, in the order of the wire, without GREASE.
func (h *ClientHello) JA3Text() string { return h.ja3(h.extensionTypes()) }

// JA3 returns the MD5 of JA3Text. A browser that shuffles its extensions, as Chrome does
// since 2023, has another one with each connection.
func (h *ClientHello) JA3() string { return ja3Hash(h.JA3Text()) }

// JA3Sorted returns JA3 with the extensions in ascending order, so that shuffling does not
// change it.
func (h *ClientHello) JA3Sorted() string {
	types := h.extensionTypes()
	slices.Sort(types)
	return ja3Hash(h.ja3(types))
}

func (h *ClientHello) ja3(extensions []uint16) string {
	formats := make([]uint16, len(h.PointFormats))
	for i, f := range h.PointFormats {
		formats[i] = uint16(f)
	}
	return strings.Join([]string{
		strconv.Itoa(int(h.Version)), decimal(withoutGREASE(h.Ciphers)), decimal(extensions),
		decimal(withoutGREASE(h.Groups)), decimal(formats),
	}, ",")
}

func ja3Hash(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

func decimal(list []uint16) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = strconv.Itoa(int(n))
	}
	return strings.Join(words, "-")
}

// JA4 returns the fingerprint of that name for TLS over TCP, in its three parts: version, SNI,
// counts and ALPN; hash of the sorted ciphers; hash of the sorted extensions and of the
// signature algorithms.
// https://github.com/FoxIO-LLC/ja4/blob/main/technical_details/JA4.md
func (h *ClientHello) JA4() string {
	sni := "i" // an address is dialled
	if h.Has(extServerName) {
		sni = "d" // a domain
	}
	ciphers, extensions := withoutGREASE(h.Ciphers), h.extensionTypes()
	return fmt.Sprintf("t%s%s%02d%02d%s_%s_%s", ja4Version(h.highestVersion()), sni,
		min(len(ciphers), 99), min(len(extensions), 99), h.ja4ALPN(), ja4Ciphers(ciphers), h.ja4Extensions(extensions))
}

// highestVersion is the newest of supported_versions or, without these, legacy_version.
func (h *ClientHello) highestVersion() uint16 {
	if versions := withoutGREASE(h.Versions); len(versions) > 0 {
		return slices.Max(versions)
	}
	return h.Version
}

func ja4Version(version uint16) string {
	switch version {
	case 0x0304:
		return "13"
	case 0x0303:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	case 0x0002:
		return "s2"
	}
	return "00"
}

// ja4ALPN is the first and last character of the first protocol; where one of them is neither
// letter nor digit, those of its bytes in hexadecimal.
func (h *ClientHello) ja4ALPN() string {
	if len(h.ALPN) == 0 || h.ALPN[0] == "" {
		return "00"
	}
	name := h.ALPN[0]
	if first, last := name[0], name[len(name)-1]; !alphanumeric(first) || !alphanumeric(last) {
		name = hex.EncodeToString([]byte(name))
	}
	return string([]byte{name[0], name[len(name)-1]})
}

func alphanumeric(b byte) bool {
	return '0' <= b && b <= '9' || 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z'
}

func ja4Ciphers(ciphers []uint16) string {
	slices.Sort(ciphers)
	return ja4Hash(hexadecimal(ciphers))
}

// ja4Extensions leaves out SNI and ALPN, which depend on where the client goes.
func (h *ClientHello) ja4Extensions(types []uint16) string {
	types = slices.DeleteFunc(types, func(n uint16) bool { return n == extServerName || n == extALPN })
	slices.Sort(types)
	text := hexadecimal(types)
	if signatures := withoutGREASE(h.Signatures); len(signatures) > 0 {
		text += "_" + hexadecimal(signatures)
	}
	return ja4Hash(text)
}

// ja4Hash is the first 12 digits of the SHA-256, and zeros for an empty list.
func ja4Hash(text string) string {
	if text == "" {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}

func hexadecimal(list []uint16) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = fmt.Sprintf("%04x", n)
	}
	return strings.Join(words, ",")
}
