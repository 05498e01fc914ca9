package guest

import (
	"io/fs"
	"strings"
	"sync"
	"time"
	"unicode"

	"waterproxy/transport/internal/stream"
)

// Notes are what host and module tell each other in files below /watm, so that a
// module which uses them still runs on a host without them. Modules that
// export none of our markers do not see them.
const (
	rolePath      = "watm/role"   // the role, by name
	argsPath      = "watm/args"   // arguments of the server, or of the one connection
	targetPath    = "watm/target" // what water_dial_fixed dials
	publishedPath = "watm/smethod"
	addressPath   = "watm/address" // the bridge line's, in the place of the listener's
	reasonPath    = "watm/error"

	maxNote   = 4096
	maxReason = 200 // it goes into a log line
)

func (in *Instance) readsNotes() bool {
	return in.many != nil || in.mode == stream.Posix || in.shape.ChecksArgs
}

func (in *Instance) addNotes(files fileMap) {
	for path, text := range map[string]string{
		rolePath: in.o.Role.String(), argsPath: in.o.Args, targetPath: in.o.Target,
		publishedPath: "", addressPath: "", reasonPath: "",
	} {
		files[path] = memoryFile{[]byte(text), 0o600}
	}
}

// mailboxes are the files that a module writes.
type mailboxes struct {
	published mailbox // SMETHOD arguments
	address   mailbox // and the address beside them
	reason    mailbox // why the next result will be negative
}

// find returns nil if the file is not for writing.
func (m *mailboxes) find(path string) *mailbox {
	switch {
	case m == nil:
	case path == publishedPath:
		return &m.published
	case path == addressPath:
		return &m.address
	case path == reasonPath:
		return &m.reason
	}
	return nil
}

// mailbox keeps what was last written to a file.
type mailbox struct {
	mu      sync.Mutex
	content []byte
}

// open starts anew.
func (b *mailbox) open() fs.File {
	b.mu.Lock()
	b.content = nil
	b.mu.Unlock()
	return openMailbox{b}
}

func (b *mailbox) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.content)
}

// take empties the box and returns what was in it, fit for one line of a log.
func (b *mailbox) take() string {
	b.mu.Lock()
	text := string(b.content)
	b.content = nil
	b.mu.Unlock()
	return oneLine(text)
}

// oneLine makes a module's words fit for an error message.
func oneLine(text string) string {
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text))
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "..."
	}
	return text
}

// openMailbox is an open mailbox.
type openMailbox struct{ *mailbox }

func (f openMailbox) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.content)+len(p) > maxNote {
		return 0, fs.ErrInvalid
	}
	f.content = append(f.content, p...)
	return len(p), nil
}

func (openMailbox) Read([]byte) (int, error)     { return 0, fs.ErrPermission }
func (openMailbox) Close() error                 { return nil }
func (f openMailbox) Stat() (fs.FileInfo, error) { return mailboxInfo{}, nil }

// mailboxInfo is that of an empty file.
type mailboxInfo struct{}

func (mailboxInfo) Name() string       { return "note" }
func (mailboxInfo) Size() int64        { return 0 }
func (mailboxInfo) Mode() fs.FileMode  { return 0o600 }
func (mailboxInfo) ModTime() time.Time { return time.Time{} }
func (mailboxInfo) IsDir() bool        { return false }
func (mailboxInfo) Sys() any           { return nil }
