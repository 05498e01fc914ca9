package ptproc

import (
	"slices"
	"strings"
	"testing"
)

func TestEnvironment(t *testing.T) {
	t.Setenv("TOR_PT_PROXY", "socks5://127.0.0.1:9")
	env := Server("/s", "127.0.0.1:1", "obfs4", "plain").WithOptions("obfs4", map[string][]string{"k": {"v:w"}}).AddTo(CleanEnvironment())
	got := slices.DeleteFunc(env, func(v string) bool { return !strings.HasPrefix(v, "TOR_PT_") })
	want := []string{
		"TOR_PT_EXIT_ON_STDIN_CLOSE=1", "TOR_PT_EXTENDED_SERVER_PORT=", "TOR_PT_MANAGED_TRANSPORT_VER=1", "TOR_PT_ORPORT=127.0.0.1:1",
		"TOR_PT_SERVER_BINDADDR=obfs4-127.0.0.1:0,plain-127.0.0.1:0", "TOR_PT_SERVER_TRANSPORTS=obfs4,plain",
		`TOR_PT_SERVER_TRANSPORT_OPTIONS=obfs4:k=v\:w`, "TOR_PT_STATE_LOCATION=/s",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	v := Client("/s", "a", "b")
	if v.Without("TOR_PT_CLIENT_TRANSPORTS")["TOR_PT_CLIENT_TRANSPORTS"] != "" || v["TOR_PT_CLIENT_TRANSPORTS"] != "a,b" {
		t.Errorf("%v", v)
	}
}
