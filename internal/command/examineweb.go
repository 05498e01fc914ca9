package command

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"

	"waterproxy/internal/webfront"
)

// webTransport is the built-in transport whose server does not start without a url, and
// whose client goes where its arguments say.
const webTransport = "webtunnel"

// needsWebServer reports whether the transport is the built-in webtunnel, and the user has
// said nothing of where its server is to be reached.
func (x *examineFlags) needsWebServer() bool {
	o := &x.options
	return o.Pair.Transport == webTransport && !o.Commands && x.catalog.BuiltIn(webTransport) &&
		x.catalog.Dir == "" && o.Pair.Bind == "" && o.Pair.Front == "" && len(o.Pair.Options) == 0 && len(o.Pair.Args) == 0
}

// makeWebServer lets the server be its own web server, with a new certificate and an empty
// site, and the client find it behind the recorder. remove removes the files.
func (x *examineFlags) makeWebServer() (remove func() error, err error) {
	dir, err := os.MkdirTemp("", "waterproxy-examine-web-")
	if err != nil {
		return nil, err
	}
	remove = func() error { return os.RemoveAll(dir) }
	pin, err := webfront.WriteCertificate(dir)
	if err == nil {
		const settings = "[web]\ncertificate = 'certificate.pem'\nkey = 'key.pem'\n"
		err = os.WriteFile(filepath.Join(dir, webTransport+".toml"), []byte(settings), 0o600)
	}
	pair := &x.options.Pair
	if err == nil { // the server publishes a placeholder, so its address is chosen here
		pair.Bind, err = freeAddress()
	}
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	pair.Front = pair.Bind
	pair.Options["url"] = []string{"https://" + webfront.Name + "/examined"}
	pair.Args["addr"], pair.Args["cert"] = []string{"{recorder}"}, []string{pin}
	pair.Server = append(slices.Clone(pair.Server), "-modules="+dir)
	return remove, nil
}

// freeAddress returns a loopback address at which nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
