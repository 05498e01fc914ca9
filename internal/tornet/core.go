package tornet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
)

// The times of the authority's voting. Tor lays votes on a grid of wall-clock
// time; these are the shortest that it takes.
const (
	initialVotingInterval = 5 * time.Second
	votingInterval        = 10 * time.Second
	voteDelay             = 2 * time.Second
	distDelay             = 2 * time.Second
)

// coreRelays is how many relays the consensus of a core holds.
const coreRelays = 2

// CoreOptions say how a [Core] is started.
type CoreOptions struct {
	// Progress gets reports of the start; nil is allowed.
	Progress Progress
}

// Core is what bridges and clients need of a Tor network: a directory
// authority, which is also a middle relay, and an exit.
type Core struct {
	dir      string
	programs Programs

	authority    *Node
	exit         *Node
	dirAuthority string // the torrc line that makes a tor part of this network

	mu     sync.Mutex
	nodes  []*Node // all of them, in the order of their start
	counts map[string]int
	closed bool
}

// StartCore starts a core with its files in dir and waits until bridges and
// clients can use it, which takes 8 to 13 seconds. dir is made if it is not
// there; it should hold nothing else. Its path must be one that a torrc can
// hold: no white space, quotes, backslashes or number signs.
func StartCore(ctx context.Context, dir string, o CoreOptions) (*Core, error) {
	programs, err := FindPrograms()
	if err != nil {
		return nil, err
	}
	if dir, err = prepareDir(dir); err != nil {
		return nil, err
	}
	c := &Core{dir: dir, programs: programs, counts: make(map[string]int)}
	err = withFreshPorts(func() error {
		err := c.start(ctx, o.Progress)
		if err != nil {
			err = errors.Join(err, c.discard(c.authority, c.exit))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("starting the private Tor network: %w", err)
	}
	return c, nil
}

// prepareDir makes the folder and returns its absolute path.
func prepareDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if strings.ContainsFunc(dir, unicode.IsSpace) || strings.ContainsAny(dir, "#\"\\") {
		return "", fmt.Errorf("a torrc cannot hold the path %q", dir)
	}
	return dir, os.MkdirAll(dir, 0o700)
}

func (c *Core) start(ctx context.Context, progress Progress) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	dirPort, authorityPort, exitPort := ports[0], ports[1], ports[2]
	if err := c.startAuthority(ctx, dirPort, authorityPort, progress.stage(StageAuthority)); err != nil {
		return err
	}
	return c.startExit(ctx, exitPort, progress.stage(StageConsensus))
}

// openedDirectory is what the authority logs when relays can publish to it.
var openedDirectory = regexp.MustCompile(`Opened Directory listener connection`)

func (c *Core) startAuthority(ctx context.Context, dirPort, orPort int, report func(int)) error {
	report(0)
	node, err := c.add("authority", nil)
	if err != nil {
		return err
	}
	c.authority = node
	keys, err := node.makeAuthorityKeys(ctx, c.programs.Gencert, dirPort)
	if err != nil {
		return err
	}
	report(40)
	c.dirAuthority = fmt.Sprintf("DirAuthority auth0 orport=%d no-v2 v3ident=%s 127.0.0.1:%d %s",
		orPort, keys.v3Identity, dirPort, keys.relay)
	lines := append(node.commonLines(c.dirAuthority), relayLines(orPort)...)
	if err := node.writeTorrc(append(lines, authorityLines(dirPort)...)); err != nil {
		return err
	}
	node.ready = func(ctx context.Context) error {
		_, err := node.WaitLog(ctx, consoleFile, openedDirectory)
		return err
	}
	if err := waitForVotingGrid(ctx); err != nil {
		return err
	}
	report(80)
	if err := node.start(ctx); err != nil {
		return err
	}
	report(100)
	return nil
}

func authorityLines(dirPort int) []string {
	seconds := func(name string, d time.Duration) string {
		return fmt.Sprintf("%s %d", name, d/time.Second)
	}
	return []string{
		fmt.Sprintf("DirPort 127.0.0.1:%d", dirPort),
		"ExitRelay 0",
		"AuthoritativeDirectory 1",
		"V3AuthoritativeDirectory 1",
		"ContactInfo nobody@localhost",
		seconds("TestingV3AuthInitialVotingInterval", initialVotingInterval),
		seconds("TestingV3AuthInitialVoteDelay", voteDelay),
		seconds("TestingV3AuthInitialDistDelay", distDelay),
		seconds("V3AuthVotingInterval", votingInterval),
		seconds("V3AuthVoteDelay", voteDelay),
		seconds("V3AuthDistDelay", distDelay),
		"V3AuthNIntervalsValid 2",
		// Relays as young as these get no flags on their own merits.
		"TestingDirAuthVoteExit *",
		"TestingDirAuthVoteGuard *",
		"TestingDirAuthVoteHSDir *",
		"TestingMinExitFlagThreshold 0",
	}
}

// waitForVotingGrid waits for the next point in time at which a round of voting
// may begin: an authority started just before it votes before the exit has
// published its descriptor, and the network is ready a round later.
func waitForVotingGrid(ctx context.Context) error {
	now := time.Now()
	timer := time.NewTimer(now.Truncate(initialVotingInterval).Add(initialVotingInterval).Sub(now))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// fetchTime is how long a relay may take at first to fetch the consensus when it is asked
// to, and its relays' descriptors; it takes about a second on an idle machine.
const fetchTime = 3 * time.Second

// maxFetchTime is the longest that it is given before it starts anew: one that has missed
// a consensus, or its relays' descriptors, may not ask again for minutes.
const maxFetchTime = 4 * fetchTime

// exitReady is what the exit logs when it has a consensus that it is part of.
var exitReady = regexp.MustCompile(`The current consensus contains exit nodes`)

// startExit starts the exit and waits for the consensus that makes it usable.
func (c *Core) startExit(ctx context.Context, orPort int, report func(int)) error {
	report(0)
	node, err := c.add("exit", nil)
	if err != nil {
		return err
	}
	c.exit = node
	if err := c.giveCertificate(node); err != nil {
		return err
	}
	lines := append(node.commonLines(c.dirAuthority), relayLines(orPort)...)
	lines = append(lines,
		"ExitRelay 1",
		"ExitPolicyRejectPrivate 0", // what it serves is on loopback
		"ExitPolicy accept *:*",
		"DirPort 0",
		// An exit that is also a directory cache was not ready in one
		// start of five.
		"DirCache 0",
	)
	if err := node.writeTorrc(lines); err != nil {
		return err
	}
	// "Bootstrapped 100%" is no sign to wait for: with so few relays it never
	// comes. The authority's consensus and the exit's view of it are.
	node.ready = func(ctx context.Context) error {
		report(20)
		if err := c.waitConsensus(ctx); err != nil {
			return c.authority.fail(err)
		}
		report(70)
		return c.waitExitReady(ctx)
	}
	if err := node.start(ctx); err != nil {
		return err
	}
	report(100)
	return nil
}

// waitExitReady waits until the exit has the consensus that the authority has.
// Having asked for it before there was one, the exit would ask again only after
// a random time of up to 12 seconds; SIGHUP makes it ask at once. It also ends what is
// being fetched, so the next one comes later each time: on a busy machine a fetch is slow.
func (c *Core) waitExitReady(ctx context.Context) error {
	for limit := fetchTime; ; limit *= 2 {
		ask := func() error { return c.exit.Signal(syscall.SIGHUP) }
		if limit > maxFetchTime {
			ask, limit = c.exit.forgetConsensus, fetchTime
		}
		if err := ask(); err != nil {
			return err
		}
		patience, cancel := context.WithTimeout(ctx, limit)
		_, err := c.exit.WaitLog(patience, noticeLog, exitReady)
		gaveUp := patience.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil || !gaveUp {
			return err
		}
	}
}

// giveCertificate puts the authority's certificate where a tor looks for those
// that it has fetched. A relay that has to ask for it after the first consensus
// may wait up to 8 seconds until it tries again.
func (c *Core) giveCertificate(node *Node) error {
	certificate, err := os.ReadFile(c.authority.path(certificateFile))
	if err != nil {
		return err
	}
	return os.WriteFile(node.path("cached-certs"), certificate, 0o600)
}

// runningRelay matches the flags of a relay in a consensus.
var runningRelay = regexp.MustCompile(`(?m)^s .*\bRunning\b`)

// waitConsensus waits until the authority has a consensus with all relays.
func (c *Core) waitConsensus(ctx context.Context) error {
	file := c.authority.path("cached-microdesc-consensus")
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		consensus, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(runningRelay.FindAll(bytes.TrimSpace(consensus), -1)) >= coreRelays {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for a consensus of %d relays: %w", coreRelays, context.Cause(ctx))
		case <-c.authority.Done():
			return errExited
		case <-c.exit.Done():
			return c.exit.fail(errExited)
		case <-tick.C:
		}
	}
}

// add makes a node that Close will stop. Its name is the kind's with a number,
// for example "bridge-2".
func (c *Core) add(kind string, logs map[string]string) (*Node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("the private Tor network: %w", ErrClosed)
	}
	c.counts[kind]++
	node, err := c.newNode(fmt.Sprintf("%s-%d", kind, c.counts[kind]), logs)
	if err != nil {
		return nil, err
	}
	c.nodes = append(c.nodes, node)
	return node, nil
}

// discard stops nodes whose start failed. Their files stay for whoever is to
// know why: the next attempt has nodes of other names.
func (c *Core) discard(nodes ...*Node) error {
	var errs []error
	for _, node := range nodes {
		if node != nil {
			errs = append(errs, node.Close())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = slices.DeleteFunc(c.nodes, func(n *Node) bool { return slices.Contains(nodes, n) })
	return errors.Join(errs...)
}

// Dir returns the folder that holds all files of the network.
func (c *Core) Dir() string { return c.dir }

// Close stops every tor of the network, bridges and clients included, and waits
// until they and all they launched are gone. It returns a [*SurvivorsError] if
// a transport had to be killed. The files stay.
func (c *Core) Close() error {
	c.mu.Lock()
	c.closed = true
	nodes := c.nodes
	c.nodes = nil
	c.mu.Unlock()

	// All at once: each may take a while, and the order does not matter.
	errs := make([]error, len(nodes))
	var closing sync.WaitGroup
	for i, node := range nodes {
		closing.Go(func() { errs[i] = node.Close() })
	}
	closing.Wait()
	return errors.Join(errs...)
}
