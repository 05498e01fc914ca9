package settings

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/pelletier/go-toml/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"waterproxy/transport"
)

const schemaFile = "../../docs/transport.schema.json"

const everything = `config = "mine.cfg"
allow = ["*.example.com:443", "udp/10.0.0.0/8:1-9"]
instances = 3
state = true

[limits]
memory = "64MiB"
descriptors = 10
threads = 3
connections = 20
instances = 30
setup-timeout = "1500ms"
drain-timeout = "2m"

[web]
certificate = "chain.pem"
key = "/etc/keys/key.pem"
site = "site"
trusted-proxies = ["127.0.0.1", "2001:db8::1:2/64"]
connections = 40
`

func TestRead(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mine.toml")
	for name, text := range map[string]string{file: everything, filepath.Join(dir, "mine.cfg"): "secret"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if !s.State {
		t.Error("no state")
	}
	var cfg transport.Config
	s.Apply(&cfg)
	if cfg.ModuleConfig, err = s.ReadConfig(); err != nil {
		t.Fatal(err)
	}
	var allowed []string
	for _, r := range cfg.Allow {
		allowed = append(allowed, r.String())
	}
	if want := []string{"*.example.com:443", "udp/10.0.0.0/8:1-9"}; !slices.Equal(allowed, want) {
		t.Errorf("allowed: %q", allowed)
	}
	if w := s.Web; w.Certificate != filepath.Join(dir, "chain.pem") || w.Key != "/etc/keys/key.pem" || w.Site != filepath.Join(dir, "site") ||
		len(w.TrustedProxies) != 2 || w.TrustedProxies[0].String() != "127.0.0.1/32" || w.TrustedProxies[1].String() != "2001:db8::/64" ||
		w.Connections != 40 || !w.Secure() || w.ACME != nil {
		t.Errorf("web: %+v", w)
	}
	if got, want := s.Web.At("key", errors.New("bad")).Error(), file+":17: web.key: bad"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	cfg.Allow = nil
	want := transport.Config{
		ModuleConfig: []byte("secret"), Instances: 3, MaxMemory: 64 << 20, MaxDescriptors: 10, MaxThreads: 3, MaxConns: 20,
		MaxInstances: 30, SetupTimeout: 1500 * time.Millisecond, DrainTimeout: 2 * time.Minute,
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("%+v, want %+v", cfg, want)
	}
}

// documents are good ones, with "", and bad ones with what the error begins with
// after the file's name. The schema is of the same opinion, but for those of which
// only the program can know.
var documents = []struct {
	text, err   string
	schemaTakes bool
}{
	{"", "", true},
	{everything, "", true},
	{"instance-per-connection = true", "", true},
	{"instance-per-connection = false\ninstances = 1", "", true},
	{"limits = {memory = '4GiB', setup-timeout = '1h'}", "", true},

	{"colour = 1", ":1: colour: there is no such key", false},
	{"state = true\n[limits]\n\nmemroy = '1GiB'\nx = 1", ":4: limits.memroy: there is no such key", false},
	{"[extra]\na = 1", ":1: extra: there is no such key", false},
	{"\nstate = 'yes'", ":2: state: it must be true or false, and is of the type string", false},
	{"config = 1", ":1: config: it must be a string, and is of the type integer", false},
	{"allow = 'x:1'", ":1: allow: it must be a list of strings", false},
	{"allow = [1]", ":1: allow: it must be a string", false},
	{"limits = 1", ":1: limits: it must be a table", false},
	{"instances = 1.5", ":1: instances: it must be a number, and is of the type float", false},
	{"instances = 0", ":1: instances: 0 is not between", false},
	{"instances = 2000000", ":1: instances: 2000000 is not between", false},
	{"[limits]\ndescriptors = -1", ":2: limits.descriptors: -1 is not between", false},
	{"[limits]\n# one\n# two\nmemory = '1 GiB'", ":4: limits.memory: \"1 GiB\" is no size", false},
	{"state = true\nlimits = {memory = 'x'}", ":2: limits.memory: \"x\" is no size", false},
	{"limits.memory = 'x'", ":1: limits.memory: \"x\" is no size", false},
	{"[limits]\nmemory = '0MiB'", ":2: limits.memory: ", false},
	{"[limits]\nsetup-timeout = '30'", ":2: limits.setup-timeout: \"30\" is no time", false},
	{"[limits]\ndrain-timeout = '-1s'", ":2: limits.drain-timeout: ", false},
	{"instance-per-connection = true\ninstances = 2", ":1: instance-per-connection: it contradicts", false},
	{"allow = ['nohost']", ":1: allow: ", false},

	{"[limits]\nmemory = '5GiB'", ":2: limits.memory: 5GiB is more than", true},
	{"\nallow = ['a:1', '[:1']", ":2: allow: ", true},
	{"allow = ['a:0']", ":1: allow: ", true},

	{"[web]", "", true},
	{"[web]\nacme-domains = ['bridge.example.com', 'b\u00fccher.example']\nacme-terms-agreed = true\nacme-email = 'me@example.com'\nacme-directory = 'https://ca.example:14000/dir'\nacme-roots = 'ca.pem'", "", true},
	{"web = {site = 'pages'}", "", true},
	{"web = 1", ":1: web: it must be a table", false},
	{"[web]\n\ncertificat = 'x'", ":3: web.certificat: there is no such key", false},
	{"[web]\ncertificate = 1", ":2: web.certificate: it must be a string", false},
	{"[web]\nsite = 'x'\ncertificate = 'x'", ":3: web.certificate: the file of its private key is missing", false},
	{"[web]\nkey = 'x'", ":2: web.key: the file of its certificates is missing", false},
	{"[web]\ncertificate = 'x'\nkey = 'y'\nacme-terms-agreed = true\nacme-domains = ['a.example']", ":5: web.acme-domains: it contradicts certificate", false},
	{"[web]\nacme-domains = ['a.example']", ":2: web.acme-domains: the authority wants its terms", false},
	{"[web]\nacme-domains = ['a.example']\nacme-terms-agreed = false", ":2: web.acme-domains: the authority wants its terms", false},
	{"[web]\nacme-email = 'x'", ":2: web.acme-email: it has no effect without", false},
	{"[web]\nacme-terms-agreed = true", ":2: web.acme-terms-agreed: it has no effect without", false},
	{"[web]\nacme-terms-agreed = true\nacme-domains = ['a.example']\nacme-directory = 'http://a.example'", ":4: web.acme-directory: it is not of the form", false},
	{"[web]\nacme-terms-agreed = true\nacme-domains = ['a.example']\nacme-email = 'nobody'", ":4: web.acme-email: it is no e-mail", true},
	{"[web]\nacme-terms-agreed = true\nacme-domains = ['localhost']", ":3: web.acme-domains: \"localhost\" is no domain", true},
	{"[web]\nacme-terms-agreed = true\nacme-domains = ['*.example.com']", ":3: web.acme-domains: \"*.example.com\" is no domain", true},
	{"[web]\nacme-terms-agreed = true\nacme-domains = ['192.0.2.1']", ":3: web.acme-domains: \"192.0.2.1\" is no domain", true},
	{"[web]\ntrusted-proxies = ['10.0.0.0/8', 'nginx']", ":2: web.trusted-proxies: \"nginx\" is neither", false},
	{"[web]\ntrusted-proxies = ['10.0.0.0/33']", ":2: web.trusted-proxies: \"10.0.0.0/33\" is neither", true},
	{"[web]\nhttp2 = false", "", true},
	{"[web]\nhttp2 = 'no'", ":2: web.http2: it must be true or false", false},
	{"[web]\nconnections = 0", ":2: web.connections: 0 is not between", false},
}

func TestDocuments(t *testing.T) {
	for _, d := range documents {
		_, err := parse("F", []byte(d.text))
		switch {
		case d.err == "" && err != nil:
			t.Errorf("%q: %v", d.text, err)
		case d.err != "" && (err == nil || !strings.HasPrefix(err.Error(), "F"+d.err)):
			t.Errorf("%q: %v, want F%s...", d.text, err, d.err)
		}
	}
}

// Not only the first thing that is wrong is told.
func TestAllErrors(t *testing.T) {
	_, err := parse("F", []byte("instances = 0\nallow = ['x', 'y']\n[limits]\nconnections = 0"))
	if err == nil {
		t.Fatal("no error")
	}
	rest := err.Error()
	for _, want := range []string{"F:1: instances", "F:2: allow", `"x"`, "F:2: allow", `"y"`, "F:4: limits.connections"} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Errorf("%v lacks %q in its place", err, want)
		}
		rest = after
	}
	if _, err := parse("F", []byte("a = 1\nb = 2")); !strings.Contains(err.Error(), "F:2: b") {
		t.Error(err)
	}
	// What is not TOML at all has a line, too.
	var e *Error
	if _, err := parse("F", []byte("state = true\nstate ?")); !errors.As(err, &e) || e.Line != 2 {
		t.Errorf("%v", err)
	}
}

// The schema accepts and refuses the same documents.
func TestSchemaAccepts(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documents {
		var tree map[string]any
		if err := toml.Unmarshal([]byte(d.text), &tree); err != nil {
			t.Fatal(err)
		}
		if tree == nil {
			tree = map[string]any{}
		}
		err := schema.Validate(plain(t, tree))
		if (err == nil) != (d.err == "" || d.schemaTakes) {
			t.Errorf("%q: %v", d.text, err)
		}
	}
}

// plain turns a tree into what the validator knows.
func plain(t *testing.T, tree any) any {
	t.Helper()
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The example in the manual is a good one, and has everything.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../../docs/modules.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(text), "```toml\n")
	example, _, ok := strings.Cut(example, "```")
	if !ok {
		t.Fatal("there is no example")
	}
	if _, err := parse("modules.md", []byte(example)); err != nil {
		t.Error(err)
	}
	keys := map[string]string{}
	typeKeys("", reflect.TypeFor[document](), keys)
	for key := range keys {
		if i := strings.LastIndexByte(key, '.'); !strings.Contains(example, key[i+1:]) {
			t.Errorf("the example lacks %s", key)
		}
	}
}

// The recipe of a web server is a good one.
func TestRecipe(t *testing.T) {
	s, err := Read("../../docs/recipes/webtunnel.toml")
	if err != nil || s.Web == nil || s.Web.ACME == nil {
		t.Errorf("%+v, %v", s, err)
	}
}

// node is what this test reads of a schema.
type node struct {
	Type       string          `json:"type"`
	Default    any             `json:"default"`
	Properties map[string]node `json:"properties"`
}

// The schema and the Go type have the same keys, of the same types, and the schema
// names the defaults that the library has.
func TestSchemaAgrees(t *testing.T) {
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var schema node
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	got, want := map[string]string{}, map[string]string{}
	schema.keys("", got)
	typeKeys("", reflect.TypeFor[document](), want)
	if !maps.Equal(got, want) {
		t.Errorf("the schema has\n%v, the type\n%v", got, want)
	}
	limits := schema.Properties["limits"].Properties
	for key, want := range map[string]any{
		"descriptors": float64(transport.DefaultMaxDescriptors), "threads": float64(transport.DefaultMaxThreads), "connections": float64(transport.DefaultMaxConns),
		"instances": float64(transport.DefaultMaxInstances), "setup-timeout": "30s", "drain-timeout": "30s",
		"state": "64MiB", "state-files": float64(transport.DefaultMaxStateFiles),
	} {
		if got := limits[key].Default; got != want {
			t.Errorf("%s: default %v, want %v", key, got, want)
		}
	}
	if transport.DefaultMaxState != 64<<20 {
		t.Error("the library's size of the state is not that of the schema")
	}
	if transport.DefaultSetupTimeout != 30*time.Second || transport.DefaultDrainTimeout != 30*time.Second {
		t.Error("the library's times are not those of the schema")
	}
}

func (n node) keys(prefix string, all map[string]string) {
	for name, p := range n.Properties {
		all[prefix+name] = p.Type
		p.keys(prefix+name+".", all)
	}
}

func typeKeys(prefix string, t reflect.Type, all map[string]string) {
	for f := range t.Fields() {
		name, ft := prefix+f.Tag.Get("toml"), f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		all[name] = map[reflect.Kind]string{
			reflect.String: "string", reflect.Int: "integer", reflect.Bool: "boolean", reflect.Slice: "array", reflect.Struct: "object",
		}[ft.Kind()]
		if ft.Kind() == reflect.Struct {
			typeKeys(name+".", ft, all)
		}
	}
}

// Editors of some systems begin a file with a byte order mark, or write UTF-16.
func TestEncodings(t *testing.T) {
	const text = "state = true\n"
	file := filepath.Join(t.TempDir(), "m.toml")
	wide := func(order binary.AppendByteOrder, text string) (b []byte) {
		for _, u := range utf16.Encode([]rune(text)) {
			b = order.AppendUint16(b, u)
		}
		return b
	}
	for name, test := range map[string]struct {
		content []byte
		want    string // of the error
	}{
		"UTF-8":                        {[]byte(text), ""},
		"UTF-8, mark":                  {[]byte("\ufeff" + text), ""},
		"only a mark":                  {[]byte("\ufeff"), ""},
		"two marks":                    {[]byte("\ufeff\ufeff" + text), file + ":1"},
		"UTF-16, little endian, mark":  {wide(binary.LittleEndian, "\ufeff"+text), file + ":1: the file is in UTF-16; save it as UTF-8"},
		"UTF-16, big endian, mark":     {wide(binary.BigEndian, "\ufeff"+text), file + ":1: the file is in UTF-16; save it as UTF-8"},
		"UTF-16, little endian":        {wide(binary.LittleEndian, text), file + ":1: the file is in UTF-16; save it as UTF-8"},
		"UTF-16, big endian":           {wide(binary.BigEndian, text), file + ":1: the file is in UTF-16; save it as UTF-8"},
		"UTF-16, nothing but the mark": {wide(binary.BigEndian, "\ufeff"), file + ":1: the file is in UTF-16; save it as UTF-8"},
	} {
		if err := os.WriteFile(file, test.content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Read(file)
		if test.want == "" {
			if err != nil || s.State != (name != "only a mark") {
				t.Errorf("%s: %+v, %v", name, s, err)
			}
		} else if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// FuzzSettings: whatever is in a file, what is wrong is said with a line that the file has.
func FuzzSettings(f *testing.F) {
	f.Add("config = \"a.cfg\"\nallow = [\"tcp/example.com:443\"]\n[limits]\nmemory = \"64MiB\"\nload-scale = 2\n")
	f.Add("\ufeffinstances = 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, err := Parse("x.toml", []byte(text))
		if err == nil {
			return
		}
		var all []error
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			all = joined.Unwrap()
		} else {
			all = []error{err}
		}
		for _, err := range all {
			var e *Error
			if !errors.As(err, &e) || e.Line < 0 || e.Line > strings.Count(text, "\n")+1 {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}
