package web

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"waterproxy/internal/pttest"
)

// fetch returns the status and the body of a page.
func fetch(t *testing.T, f *Front, at string) string {
	t.Helper()
	client := http.Client{
		Timeout:       pttest.Patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableKeepAlives: true},
	}
	resp, err := client.Get("http://" + f.Addr().String() + at)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(body))
}

const notFound = "404 404 page not found\n"

// Of a directory only pages are shown: no list, no hidden file, nothing outside, nothing
// that is no file.
func TestSite(t *testing.T) {
	dir, outside := newSite(t), filepath.Join(t.TempDir(), "outside.txt")
	if err := os.WriteFile(outside, []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"leaves": outside, "up": "../", "inside": "style.css", "hides/.x": "../style.css", "nowhere": "gone", "device": "/dev/zero",
	} {
		link := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	makeFIFO(t, filepath.Join(dir, "fifo"))
	f := start(t, Config{Web: parse(t, "x.toml", "site = '"+dir+"'")}, usualTimes)
	for at, want := range map[string]string{
		"/": "200 <!doctype html><title>Recipes</title><p>Bread.", "/style.css": "200 p { margin: 1em }", "/soup/": "200 <p>Soup.",
		"/inside": "200 p { margin: 1em }", "/list/a.txt": "200 not listed",
		"/list/": notFound, "/list": notFound, "/.git/config": notFound, "/.git": notFound, "/secret/.htpasswd": notFound, "/hides/.x": notFound,
		"/leaves": notFound, "/up": notFound, "/up/": notFound, "/nowhere": notFound, "/device": notFound, "/fifo": notFound,
		"/..%2f..%2fetc/passwd": notFound, secretPath: notFound,
	} {
		if got := fetch(t, f, at); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
	// What takes the place of the directory is seen at once.
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, f, "/"); got != notFound {
		t.Errorf("without its directory: %q", got)
	}
	if err := os.Rename(newSite(t), dir); err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, f, "/soup/"); got != "200 <p>Soup." {
		t.Errorf("with a new directory: %q", got)
	}
}

// Without a site no page exists.
func TestNoSite(t *testing.T) {
	f := start(t, Config{Web: parse(t, "x.toml", "")}, usualTimes)
	for _, at := range []string{"/", "/x", "/x/y", secretPath} {
		if got := fetch(t, f, at); got != notFound {
			t.Errorf("%s: %q", at, got)
		}
	}
}
