package service

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"waterproxy/internal/walls"
)

func TestFromFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "repository.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("from = ['https://modules.example/', 'copy', '/srv/copy', 'file:///srv/copy']\nroot = 'root.json'\nevery = '10m'\nvia = 'socks5://127.0.0.1:9050'\n")
	f := From{Every: defaultEvery}
	if err := f.Read(file); err != nil {
		t.Fatal(err)
	}
	want := From{
		Mirrors: []string{"https://modules.example/", filepath.Join(dir, "copy"), "/srv/copy", "file:///srv/copy"},
		Root:    filepath.Join(dir, "root.json"), Every: 10 * time.Minute, Via: "socks5://127.0.0.1:9050",
	}
	if !reflect.DeepEqual(f, want) || f.Check() != nil {
		t.Errorf("%+v, want %+v; %v", f, want, f.Check())
	}
	said := From{Mirrors: []string{"x"}, Root: "y", Every: time.Second, Via: "socks5://127.0.0.1:1"}
	f = said
	if err := f.Read(file); err != nil || !reflect.DeepEqual(f, said) {
		t.Errorf("flags were overruled: %+v, %v", f, err)
	}
	for _, bad := range []string{"from = 1", "every = 'soon'", "form = ['x']", "from = ["} {
		write(bad)
		if err := (&From{Every: defaultEvery}).Read(file); err == nil {
			t.Errorf("%s is no error", bad)
		}
	}
	for _, bad := range []From{{Every: time.Millisecond}, {Every: -1}, {Via: "x"}, {Root: "x"}} {
		if err := bad.Check(); err == nil {
			t.Errorf("%+v is no error", bad)
		}
	}
}

// TestNewsPorts: the walls let looks connect to where the repository or the proxy is, and
// to nothing for what is on this machine.
func TestNewsPorts(t *testing.T) {
	for _, test := range []struct {
		mirrors []string
		proxy   string
		want    []walls.PortRange
	}{
		{[]string{"/srv/copy", "file:///srv/copy"}, "", nil},
		{[]string{"http://192.0.2.1:8080/x"}, "", []walls.PortRange{walls.Port(8080), walls.DNS}},
		{[]string{"https://modules.example/"}, "", []walls.PortRange{walls.Port(443), walls.DNS, walls.Port(443), walls.Port(80)}},
		{[]string{"https://modules.example/"}, "socks5://127.0.0.1:9050", []walls.PortRange{walls.Port(9050), walls.DNS}},
	} {
		n := news{from: From{Mirrors: test.mirrors}}
		n.request.Proxy = test.proxy
		if got := n.ports(); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%v by %q: %v, want %v", test.mirrors, test.proxy, got, test.want)
		}
	}
}
