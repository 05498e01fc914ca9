package self

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"waterproxy/internal/examine"
	"waterproxy/internal/examine/probe"
	"waterproxy/transport/testmodules"
)

// runExamine examines something, and returns the report with the process that has ended.
func runExamine(t *testing.T, status int, args ...string) (*examine.Report, *process) {
	t.Helper()
	p := runPlain(t, append([]string{"examine", "-json"}, args...)...)
	p.CheckStatus(status)
	r := new(examine.Report)
	if err := json.Unmarshal([]byte(strings.Join(p.Stdout.All(), "\n")), r); err != nil {
		t.Fatalf("%v; standard error has %q", err, p.Stderr.All())
	}
	return r, p
}

// finding returns one that has to be there.
func finding(t *testing.T, r *examine.Report, section, name string) examine.Finding {
	t.Helper()
	i := slices.IndexFunc(r.Findings, func(f examine.Finding) bool { return f.Section == section && f.Name == name })
	if i < 0 {
		t.Fatalf("there is no finding %q in %q among %+v", name, section, r.Findings)
	}
	return r.Findings[i]
}

// plain is what it carries: TLS of known clients, exempt, and answered by what is behind it.
// In tor's TLS there is TLS once more. The page has all of that, and is drawn by a browser without a complaint.
func TestExaminePlain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.html")
	r, p := runExamine(t, 1, "-n", "33", "-probes", "3", "-probe-time", "2s", "-rounds", "1", "-html", file, "-fail-on", "blocked,tls-in-tls", "plain")
	if r.First.Exempt != 33 || r.First.Blocked != 0 || r.First.ByRule["Ex5"] != 33 || r.Flows != 33 || r.Lengths.RoundTrips != 0 {
		t.Errorf("%+v, %d flows, %d round trips", r.First, r.Flows, r.Lengths.RoundTrips)
	}
	if r.TLS == nil || r.TLS.Flows != 33 || r.TLS.Versions["TLS 1.3"] != 33 || len(r.TLS.JA4) != 3 || !slices.Contains(r.TLS.Clients, "Chrome 133") ||
		!slices.Contains(r.TLS.Clients, "Firefox 105") {
		t.Errorf("TLS: %+v", r.TLS)
	}
	if f := finding(t, r, examine.SectionTLS, "known client"); f.Verdict != examine.Good {
		t.Errorf("%+v", f)
	}
	if want := map[examine.Kind]int{examine.Tor: 517, examine.Bulk: r.Lengths.ToServer[0].Fixed[examine.Bulk]}; fmt.Sprint(r.Lengths.ToServer[0].Fixed) != fmt.Sprint(want) || want[examine.Bulk] < 517 {
		t.Errorf("the first packets have the lengths %v", r.Lengths.ToServer[0].Fixed)
	}
	if r.Cost == nil || len(r.Cost.Figures) != 7 {
		t.Fatalf("the cost is %+v", r.Cost)
	}
	for _, f := range r.Cost.Figures {
		if f.Plain == nil || f.Median <= 0 && !strings.Contains(f.Name, "memory") {
			t.Errorf("%+v", f)
		}
	}
	if len(r.Survival) != 8 {
		t.Errorf("%+v", r.Survival)
	}
	for _, s := range r.Survival {
		if !s.Survived {
			t.Errorf("%+v", s)
		}
	}
	// A prober reaches what is behind it.
	for _, result := range r.Probes.Results {
		if answered := result.Answered == 3; result.Instance == "normal" && answered != (result.Probe == "a TLS ClientHello" || strings.HasPrefix(result.Probe, "a handshake")) {
			t.Errorf("%+v", result)
		}
	}
	// Of the two words one is a failure, and is named.
	if said := strings.Join(p.Stderr.All(), "\n"); !strings.Contains(said, "waterproxy examine: tls-in-tls: ") || strings.Contains(said, "waterproxy examine: blocked: ") {
		t.Errorf("standard error has %q", said)
	}
	checkPage(t, file, r)
}

// checkPage opens a page in a browser.
func checkPage(t *testing.T, file string, r *examine.Report) {
	t.Helper()
	browser := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(),
		"--enable-logging=stderr", "--dump-dom", "file://"+file)
	browser.Env = append(os.Environ(), "HOME="+t.TempDir())
	var log strings.Builder
	browser.Stderr = &log
	dom, err := browser.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, log.String())
	}
	if strings.Contains(log.String(), ":CONSOLE") {
		t.Errorf("the browser complains: %s", log.String())
	}
	page := string(dom)
	for class, want := range map[string]int{"packets": len(examine.Kinds), "timing": len(examine.Kinds), "entropy": 2} {
		if got := strings.Count(page, `class="`+class+`"`); got != want {
			t.Errorf("the page has %d plots of the kind %s, not %d", got, class, want)
		}
	}
	bars := len(r.Entropy.ToServer) + len(r.Entropy.ToClient)
	for _, s := range r.Samples {
		bars += 2 * len(s.Packets)
	}
	if got := strings.Count(page, "<rect"); got != bars {
		t.Errorf("the page has %d bars, not %d", got, bars)
	}
	if strings.Contains(page, "<script") || strings.Contains(page, "ZgotmplZ") || strings.Count(page, "<tr>") != len(r.Findings) {
		t.Errorf("the page has a script, or not each of %d findings", len(r.Findings))
	}
}

// obfs4 looks like nothing, says nothing, and waits.
func TestExamineObfs4(t *testing.T) {
	r, p := runExamine(t, 1, "-n", "60", "-probes", "3", "-probe-time", "3s", "-no-cost", "-fail-on", "blocked", "obfs4")
	if r.TLS != nil || r.First.Blocked < 55 || r.Lengths.RoundTrips != 1 || r.Flows != 60 {
		t.Errorf("%+v, %+v, %d round trips", r.TLS, r.First, r.Lengths.RoundTrips)
	}
	if f := finding(t, r, examine.SectionProbes, "answers"); f.Verdict != examine.Good {
		t.Errorf("%+v", f)
	}
	if r.Probes.Bytes != 0 || r.Probes.Seconds != 0 {
		t.Errorf("closes after %d bytes, or %v s", r.Probes.Bytes, r.Probes.Seconds)
	}
	states := map[string]int{}
	for _, result := range r.Probes.Results {
		states[result.Instance]++
		want := map[probe.End]int{probe.Silence: 3}
		if strings.HasSuffix(result.Probe, "half-close") {
			want = map[probe.End]int{probe.FIN: 3}
		}
		if result.Instance == "failing" {
			want = map[probe.End]int{probe.Silence: 200}
		}
		if result.Differs != "" || result.Answered != 0 || fmt.Sprint(result.Ends) != fmt.Sprint(want) {
			t.Errorf("%+v", result)
		}
	}
	if states["normal"] < 15 || states["full"] != 3 || states["failing"] != 1 {
		t.Errorf("results by the state of the instance: %v", states)
	}
	if said := strings.Join(p.Stderr.All(), "\n"); !strings.Contains(said, "waterproxy examine: blocked: first payload") {
		t.Errorf("standard error has %q", said)
	}
}

// Modules of others are examined as well, by file, and so are commands; an answer to every
// prober is not a failure unless one asks for that.
func TestExamineOthers(t *testing.T) {
	exe, err := plainProgram()
	if err != nil {
		t.Fatal(err)
	}
	quick := []string{"-n", "6", "-no-probes", "-no-cost"}
	for _, args := range [][]string{
		{testmodules.Path("plain_v0")},
		{testmodules.Path("plain_v1")},
		{"-client", exe, "-server", exe, "-transport", "plain"},
	} {
		r, _ := runExamine(t, 0, append(slices.Clone(quick), args...)...)
		if r.First.Exempt != 6 || r.Flows != 6 || r.TLS == nil || r.Probes != nil || r.Cost != nil {
			t.Errorf("%q: %+v", args, r)
		}
	}
}

// What cannot be examined is named, with the words of the program itself.
func TestExamineErrors(t *testing.T) {
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"-no-probes", "-no-cost", "-n", "2", "-client", os.Args[0] + "-missing", "-server", os.Args[0] + "-missing", "-transport", "x"}, 1, "cannot start the server"},
		{[]string{"-no-probes", "-no-cost", "-n", "2", testmodules.Path("bad_text")}, 1, "SMETHOD-ERROR"},
		{[]string{"-n", "2", "-option", "iat-mode=9", "obfs4"}, 1, "iat-mode"},
	} {
		p := runPlain(t, append([]string{"examine"}, test.args...)...)
		p.CheckStatus(test.status)
		if said := strings.Join(p.Stderr.All(), "\n"); !strings.Contains(said, test.want) || len(p.Stdout.All()) > 0 {
			t.Errorf("%q: standard error has %q, want %q", test.args, said, test.want)
		}
	}
}
