package command

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"
	"golang.org/x/term"

	"waterproxy/internal/mirror"
	"waterproxy/internal/publish"
	"waterproxy/internal/release"
	"waterproxy/internal/repository"
	"waterproxy/internal/userfile"
	"waterproxy/transport"
)

// How long clients believe metadata, unless the publisher says otherwise.
const (
	defaultBelieve = span(30 * 24 * time.Hour)
	defaultRootFor = span(365 * 24 * time.Hour)
)

func publishCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy publish")
	return &ffcli.Command{
		Name:       "publish",
		ShortUsage: "waterproxy publish <subcommand> [flags]",
		ShortHelp:  "make and sign a repository of modules, of files that any web server serves",
		LongHelp:   "What is added is staged, signed by as many keys as it takes, and then published. See\ndocs/publishing.md.",
		FlagSet:    fs,
		Subcommands: []*ffcli.Command{
			publishKeyCommand(), publishInitCommand(), publishAddCommand(), publishRemoveCommand(), publishRenewCommand(),
			publishDiscardCommand(), publishSignCommand(), publishStatusCommand(), publishRotateCommand(), publishVerifyCommand(),
		},
		Exec: func(context.Context, []string) error {
			fmt.Fprintln(os.Stderr, "waterproxy publish takes a subcommand; `waterproxy publish -h` lists them.")
			return errUsage
		},
	}
}

// publishSub returns a subcommand that takes between least and most arguments.
func publishSub(name, usage, help, long string, fs *flag.FlagSet, least, most int, do exec) *ffcli.Command {
	return &ffcli.Command{
		Name: name, ShortUsage: "waterproxy publish " + name + " " + usage, ShortHelp: help, LongHelp: long, FlagSet: fs,
		Exec: interruptible(func(ctx context.Context, args []string) error {
			args, err := positional(fs, args)
			if err != nil {
				return err
			}
			if len(args) < least || most >= 0 && len(args) > most {
				fmt.Fprintf(os.Stderr, "waterproxy publish %s takes other arguments: %s\n", name, usage)
				return errUsage
			}
			return do(ctx, args)
		}),
	}
}

// span is a flag for a time, which may be in days.
type span time.Duration

func (s *span) String() string {
	if d := time.Duration(*s); d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return time.Duration(*s).String()
}

func (s *span) Set(text string) error {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < time.Second || d > 100*365*24*time.Hour {
		return fmt.Errorf("%q is no time such as 30d or 12h", text)
	}
	*s = span(d)
	return nil
}

func spanFlag(fs *flag.FlagSet, name string, value span, usage string) *span {
	fs.Var(&value, name, usage)
	return &value
}

// now is the time of what is staged: that of SOURCE_DATE_EPOCH, if it is set, so that a
// publication can be made again, byte for byte.
func now() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Now().UTC().Truncate(time.Second), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %q is no number of seconds", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// passphrase gets the passphrase of keys, from a file or from the user.
type passphrase struct {
	file  string
	stdin *bufio.Reader // if it is no terminal
}

func (p *passphrase) flag(fs *flag.FlagSet) {
	fs.StringVar(&p.file, "passphrase-file", "", "read the passphrase of the keys from the first line of `FILE`; an empty file means none")
}

const maxPassphrase = 4096

// get returns the passphrase of a key. A new one has to be typed twice; from a pipe it is
// a line for each question.
func (p *passphrase) get(ctx context.Context, what string, isNew bool) ([]byte, error) {
	if p.file != "" {
		text, err := userfile.Read(p.file, maxPassphrase)
		line, _, _ := bytes.Cut(text, []byte("\n"))
		return bytes.TrimSuffix(line, []byte("\r")), err
	}
	terminal := int(os.Stdin.Fd())
	if !term.IsTerminal(terminal) {
		if p.stdin == nil {
			p.stdin = bufio.NewReaderSize(os.Stdin, maxPassphrase)
		}
		line, err := p.stdin.ReadSlice('\n')
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			return bytes.Clone(line), nil
		}
		return nil, errors.Join(fmt.Errorf("the passphrase of %s: standard input is no terminal to ask for it at, and has none; name a file with it by -passphrase-file FILE", what), err)
	}
	ask := func(prompt string) ([]byte, error) { return readPassword(ctx, terminal, prompt) }
	text, err := ask("Passphrase of " + what + ": ")
	if err != nil || !isNew {
		return text, err
	}
	if len(text) == 0 {
		return nil, errors.New("the passphrase is empty; an empty file named by -passphrase-file means none")
	}
	again, err := ask("The same again: ")
	if err == nil && !bytes.Equal(text, again) {
		err = errors.New("the two passphrases differ")
	}
	return text, err
}

// readPassword reads a line from a terminal that does not show it. The end of ctx, as by
// Ctrl-C, ends the question and leaves the terminal as it was.
func readPassword(ctx context.Context, terminal int, prompt string) ([]byte, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(os.Stderr, prompt)
	defer fmt.Fprintln(os.Stderr)
	type answer struct {
		text []byte
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(terminal)
		read <- answer{text, err}
	}()
	select {
	case a := <-read:
		return a.text, a.err
	case <-ctx.Done():
		return nil, errors.Join(errInterrupted, term.Restore(terminal, before))
	}
}

func publishKeyCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy publish key")
	var p passphrase
	p.flag(fs)
	return publishSub("key", "[-passphrase-file FILE] KEYFILE", "make a key of your own",
		"It makes KEYFILE, which you keep, and KEYFILE.pub for whoever makes the repository.", fs, 1, 1,
		func(ctx context.Context, args []string) error {
			phrase, err := p.get(ctx, args[0], true)
			if err != nil {
				return err
			}
			k, err := publish.NewKey(args[0], phrase)
			if err == nil {
				fmt.Printf("key %s: %s is yours alone, %s is for the others\n", k.ID[:8], args[0], args[0]+publish.PublicSuffix)
			}
			return err
		})
}

func publishInitCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy publish init")
	threshold := fs.Int("threshold", 2, "how many keys have to sign, `N`")
	keys := fs.Int("keys", 0, "make `N` keys in the directory of -key-dir")
	keyDir := fs.String("key-dir", "", "the `DIR` for new keys: 1.key, 2.key and so on; not the repository's")
	believe := spanFlag(fs, "for", defaultBelieve, "how `long` clients believe the repository before it is renewed")
	rootFor := spanFlag(fs, "root-for", defaultRootFor, "how `long` clients believe its keys before they are renewed")
	var p passphrase
	p.flag(fs)
	return publishSub("init", "-threshold N [-keys N -key-dir KEYS] DIR [KEYFILE.pub...]", "make a repository in DIR",
		"With -keys it makes the keys too, and the repository is published at once. With the .pub\nfiles of keys that others have made, it is published when enough of them have signed it.\nThe first root, which clients name by -root, is DIR/root.json.", fs, 1, -1,
		func(ctx context.Context, args []string) error {
			if (*keys > 0) != (*keyDir != "") {
				return errors.New("-keys and -key-dir belong together")
			}
			at, err := now()
			if err != nil {
				return err
			}
			o := publish.InitOptions{Threshold: *threshold, Public: args[1:], Now: at, RootFor: time.Duration(*rootFor), Believe: time.Duration(*believe)}
			if most := *keys + len(o.Public); *threshold < 1 || *threshold > most {
				return fmt.Errorf("a threshold of %d is not between 1 and the number of keys, %d", *threshold, most)
			}
			repo := publish.Open(args[0])
			if err := repo.CheckNew(); err != nil {
				return err
			}
			if o.Keys, err = makeKeys(ctx, *keys, *keyDir, p); err != nil {
				return err
			}
			if err := repo.Init(o); err != nil {
				return err
			}
			if len(o.Keys) == 0 {
				fmt.Printf("staged: %d keys have to sign it, by `waterproxy publish sign %s KEYFILE`\n", *threshold, args[0])
				return nil
			}
			return sign(os.Stdout, args[0], o.Keys)
		})
}

// makeKeys makes keys in a directory, or reads those that are there.
func makeKeys(ctx context.Context, n int, dir string, p passphrase) (keys []*publish.Key, err error) {
	if n == 0 {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var phrase []byte
	get := func(isNew bool) func() ([]byte, error) {
		return func() ([]byte, error) {
			if phrase == nil {
				phrase, err = p.get(ctx, "the keys in "+dir, isNew)
			}
			return phrase, err
		}
	}
	for i := range n {
		file := filepath.Join(dir, fmt.Sprintf("%d.key", i+1))
		var k *publish.Key
		if _, err := os.Lstat(file); err == nil {
			k, err = publish.ReadKey(file, get(false))
			if err != nil {
				return nil, err
			}
		} else {
			phrase, err := get(true)()
			if err != nil {
				return nil, err
			}
			if k, err = publish.NewKey(file, phrase); err != nil {
				return nil, err
			}
		}
		fmt.Printf("key %s: %s\n", k.ID[:8], file)
		keys = append(keys, k)
	}
	return keys, nil
}

func publishAddCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy publish add")
	believe := spanFlag(fs, "for", defaultBelieve, "how `long` clients believe the repository before it is renewed")
	var needs release.Needs
	fs.Func("needs-allow", "the module dials addresses by itself, by `RULE`; repeatable (what clients have to grant)", func(rule string) error {
		needs.Allow = append(needs.Allow, rule)
		_, err := transport.ParseAddressRule(rule)
		return err
	})
	fs.BoolVar(&needs.State, "needs-state", false, "the module keeps files")
	memory := fs.Uint64("needs-memory", 0, "an instance takes so many `MiB` of memory")
	minimum := fs.String("minimum", "", "the oldest `VERSION` of waterproxy that can run it")
	description := fs.String("description", "", "a `LINE` for people")
	return publishSub("add", "[flags] DIR NAME VERSION FILE.wasm", "stage a version of the transport NAME",
		"The ABI, and whether the module uses threads and the host's cryptography, are read from it.", fs, 4, 4,
		func(ctx context.Context, args []string) error {
			at, err := now()
			if err != nil {
				return err
			}
			wasm, err := userfile.Read(args[3], userfile.MaxModule)
			if err != nil {
				return err
			}
			m, err := compileApart(wasm)
			if err != nil {
				return fmt.Errorf("%s can't run here: %w", args[3], err)
			}
			defer m.Close()
			if err := transport.SelfTest(ctx, transport.Config{Module: m}); err != nil {
				return fmt.Errorf("%s: %w", args[3], err)
			}
			needs.HostCrypto = m.HostCrypto()
			if m.Threads() {
				needs.Threads = 1
			}
			needs.Memory = *memory << 20
			r := release.Release{Transport: args[1], Version: args[2], ABI: m.ABI(), Needs: needs, Minimum: *minimum, Description: *description}
			err = publish.Open(args[0]).Add(r, wasm, at, time.Duration(*believe))
			return staged(args[0], fmt.Sprintf("%s %s, SHA-256 %x", args[1], args[2], m.SHA256()), err)
		})
}

// staged says what is staged, unless that has failed.
func staged(dir, what string, err error) error {
	if err == nil {
		fmt.Printf("staged: %s; sign it by `waterproxy publish sign %s KEYFILE...`\n", what, dir)
	}
	return err
}

func publishRemoveCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy publish remove")
	believe := spanFlag(fs, "for", defaultBelieve, "how `long` clients believe the repository before it is renewed")
	return publishSub("remove", "[-for TIME] DIR NAME", "stage a repository without the transport NAME",
		"Clients that have it go on using it; no other gets it.", fs, 2, 2,
		func(_ context.Context, args []string) error {
			at, err := now()
			if err == nil {
				err = publish.Open(args[0]).Remove(args[1], at, time.Duration(*believe))
			}
			return staged(args[0], "the repository without "+args[1], err)
		})
}

func publishRenewCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy publish renew")
	believe := spanFlag(fs, "for", defaultBelieve, "how `long` clients believe the repository before it is renewed")
	return publishSub("renew", "[-for TIME] DIR", "stage what is published again, before it expires", "", fs, 1, 1,
		func(_ context.Context, args []string) error {
			at, err := now()
			if err == nil {
				err = publish.Open(args[0]).Renew(at, time.Duration(*believe))
			}
			return staged(args[0], "the same modules for another "+believe.String(), err)
		})
}

func publishDiscardCommand() *ffcli.Command {
	return publishSub("discard", "DIR", "remove what is staged", "What is published stays.", newFlagSet("waterproxy publish discard"), 1, 1,
		func(_ context.Context, args []string) error { return publish.Open(args[0]).Discard() })
}

func publishSignCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy publish sign")
	var p passphrase
	p.flag(fs)
	return publishSub("sign", "[-passphrase-file FILE] DIR KEYFILE...", "sign what is staged, and publish it if that is enough",
		"Keys may be on different machines: hand on DIR, of which root.json and staged are enough\nfor all but the last.", fs, 2, -1,
		func(ctx context.Context, args []string) error {
			if err := publish.Open(args[0]).StagedStatus(os.Stdout); err != nil {
				return err
			}
			var keys []*publish.Key
			for _, file := range args[1:] {
				k, err := publish.ReadKey(file, func() ([]byte, error) { return p.get(ctx, file, false) })
				if err != nil {
					return err
				}
				keys = append(keys, k)
			}
			return sign(os.Stdout, args[0], keys)
		})
}

func sign(w io.Writer, dir string, keys []*publish.Key) error {
	missing, err := publish.Open(dir).Sign(keys)
	switch {
	case err != nil:
		return err
	case len(missing) > 0:
		fmt.Fprintf(w, "signed, and not published yet:\n  %s\n", strings.Join(missing, "\n  "))
	default:
		fmt.Fprintf(w, "published in %s\n", dir)
	}
	return nil
}

func publishStatusCommand() *ffcli.Command {
	return publishSub("status", "DIR", "say what is published, what is staged and what it lacks", "", newFlagSet("waterproxy publish status"), 1, 1,
		func(_ context.Context, args []string) error {
			return publish.Open(args[0]).Status(os.Stdout, time.Now())
		})
}

func publishRotateCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy publish rotate")
	var o publish.Rotation
	fs.Func("add", "add the key in `KEYFILE.pub`; repeatable", func(file string) error {
		o.Add = append(o.Add, file)
		return nil
	})
	fs.Func("remove", "remove the key with the `ID`, or the beginning of it; repeatable", func(id string) error {
		o.Remove = append(o.Remove, id)
		return nil
	})
	fs.IntVar(&o.Threshold, "threshold", 0, "how many keys have to sign from then on, `N`")
	believe := spanFlag(fs, "for", defaultBelieve, "how `long` clients believe the repository before it is renewed")
	rootFor := spanFlag(fs, "root-for", defaultRootFor, "how `long` clients believe the keys before they are renewed")
	return publishSub("rotate", "[-add KEYFILE.pub] [-remove ID] [-threshold N] DIR", "stage other keys, or the same for longer",
		"Enough of the old keys and enough of the new ones have to sign it.", fs, 1, 1,
		func(_ context.Context, args []string) (err error) {
			if o.Now, err = now(); err != nil {
				return err
			}
			o.RootFor, o.Believe = time.Duration(*rootFor), time.Duration(*believe)
			return staged(args[0], "a new root", publish.Open(args[0]).Rotate(o))
		})
}

// firstRoot returns the root file of a repository from which all users can follow, if it is
// still there.
func firstRoot(dir string) string {
	if file := filepath.Join(dir, "1.root.json"); exist([]string{file}) {
		return file
	}
	return filepath.Join(dir, "root.json")
}

func publishVerifyCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy publish verify")
	root := fs.String("root", "", "trust the keys in `FILE`, and not the first ones in DIR")
	return publishSub("verify", "[-root FILE] DIR|URL", "say what a client would say of a repository", "It fails if a client would refuse anything.", fs, 1, 1,
		func(ctx context.Context, args []string) (err error) {
			if *root == "" && mirror.Port(args[0]) != "" {
				return errors.New("the keys of a repository on the network have to come from elsewhere: name them by -root FILE")
			}
			state, err := os.MkdirTemp("", "waterproxy-verify-")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
			o := &modulesOptions{name: "publish verify"}
			o.catalog.StateDir = state
			o.from.Mirrors = args
			o.from.Root = cmp.Or(*root, firstRoot(args[0]))
			if err := o.update(ctx, os.Stdout, nil); err != nil {
				return err
			}
			offered, err := repository.New(state).Offered()
			if err != nil {
				return err
			}
			for _, v := range offered {
				fmt.Printf("%s %s, SHA-256 %s, %d bytes, signed by %s\n", v.Transport, cmp.Or(v.Version, "-"), v.SHA256, v.Length, strings.Join(v.Signers, ", "))
			}
			return nil
		})
}
