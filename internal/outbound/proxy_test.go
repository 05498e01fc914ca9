package outbound

import (
	"strings"
	"testing"
)

func TestParseProxy(t *testing.T) {
	for text, want := range map[string]Proxy{
		"http://198.51.100.3:443":                         {kind: "http", address: "198.51.100.3:443"},
		"https://proxy.example:443/":                      {kind: "https", address: "proxy.example:443"},
		"socks4a://198.51.100.2:8001":                     {kind: "socks4a", address: "198.51.100.2:8001"},
		"socks4a://me@198.51.100.2:8001":                  {kind: "socks4a", address: "198.51.100.2:8001", user: "me"},
		"socks5://tor:test1234@198.51.100.1:8000":         {kind: "socks5", address: "198.51.100.1:8000", user: "tor", password: "test1234"},
		"SOCKS5://[2001:db8::1]:1080":                     {kind: "socks5", address: "[2001:db8::1]:1080"},
		"socks5://a%40b:c%3Ad%2F@127.0.0.1:1080":          {kind: "socks5", address: "127.0.0.1:1080", user: "a@b", password: "c:d/"},
		"http://only@127.0.0.1:80":                        {kind: "http", address: "127.0.0.1:80", user: "only"},
		"socks5://us%er:p:w@@127.0.0.1:1080":              {kind: "socks5", address: "127.0.0.1:1080", user: "us%er", password: "p:w@"},
		"socks5://user:p@ss/w0rd@127.0.0.1:1080":          {kind: "socks5", address: "127.0.0.1:1080", user: "user", password: "p@ss/w0rd"},
		"http://user:p?#[ ]%zz@127.0.0.1:80":              {kind: "http", address: "127.0.0.1:80", user: "user", password: "p?#[ ]%zz"},
		"http://user:x://y@127.0.0.1:80":                  {kind: "http", address: "127.0.0.1:80", user: "user", password: "x://y"},
		"http://:secret@127.0.0.1:80":                     {kind: "http", address: "127.0.0.1:80", password: "secret"},
		"socks5://u:" + strings.Repeat("p", 255) + "@h:1": {kind: "socks5", address: "h:1", user: "u", password: strings.Repeat("p", 255)},
	} {
		if p, err := ParseProxy(text); err != nil || *p != want {
			t.Errorf("%s: %+v, %v; want %+v", text, p, err, want)
		}
	}
}

func TestParseProxyErrors(t *testing.T) {
	for _, text := range []string{
		"", "127.0.0.1:1080", "socks5:127.0.0.1:1080", "socks4://127.0.0.1:1080", "ftp://127.0.0.1:21", "://127.0.0.1:80",
		"http://", "http://secret@", "http://127.0.0.1", "http://127.0.0.1:", "http://:80", "http://127.0.0.1:0",
		"http://127.0.0.1:65536", "http://127.0.0.1:http", "http://127.0.0.1:80/path", "http://127.0.0.1:80?q", "http://a b:80",
		"http://::1:80", "socks5://:secret@127.0.0.1:1080", "socks4a://u:secret@127.0.0.1:1080", "socks4a://u%00v@127.0.0.1:1080",
		"socks5://u:secret" + strings.Repeat("p", 250) + "@h:1", "socks5://" + strings.Repeat("u", 256) + ":secret@h:1",
	} {
		p, err := ParseProxy(text)
		if err == nil {
			t.Errorf("%s: %+v", text, p)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the password: %v", text, err)
		}
	}
}
