package tornet

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// Plugin is one ClientTransportPlugin or ServerTransportPlugin line: a program
// and the transports it is asked for.
type Plugin struct {
	// Transports are the names on the line; all are served by one process.
	Transports []string
	// Exec is the program, as an absolute path, and its arguments.
	Exec []string
}

// line returns the torrc line under the given keyword.
func (p Plugin) line(keyword string) (string, error) {
	if len(p.Transports) == 0 || len(p.Exec) == 0 {
		return "", fmt.Errorf("%s: a plugin needs a transport and a program", keyword)
	}
	// tor runs in a folder of its own.
	if !filepath.IsAbs(p.Exec[0]) {
		return "", fmt.Errorf("%s: the path %q is not absolute", keyword, p.Exec[0])
	}
	for _, word := range slices.Concat(p.Transports, p.Exec) {
		// tor splits the line at white space, knows no quotes in it and
		// cuts it at a number sign.
		if word == "" || strings.ContainsFunc(word, unicode.IsSpace) || strings.ContainsAny(word, "#\"\\") {
			return "", fmt.Errorf("%s: tor cannot take %q as a word of a plugin line", keyword, word)
		}
	}
	return fmt.Sprintf("%s %s exec %s", keyword, strings.Join(p.Transports, ","), strings.Join(p.Exec, " ")), nil
}

// pluginLines returns the torrc lines of several plugins.
func pluginLines(keyword string, plugins []Plugin) ([]string, error) {
	lines := make([]string, 0, len(plugins))
	for _, p := range plugins {
		line, err := p.line(keyword)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

const (
	// noticeLog is the log file that every node has.
	noticeLog = "notice.log"
	// transportLog holds all that tor has to say of the transports it
	// launches, with what they write to standard error.
	transportLog = "pt.log"
)

// commonLines are the torrc lines that all nodes share.
func (n *Node) commonLines(dirAuthority string) []string {
	lines := []string{
		"TestingTorNetwork 1",
		"DataDirectory " + n.dir,
		"Log notice file " + n.path(noticeLog),
		"Log [pt]info file " + n.path(transportLog),
		"ShutdownWaitLength 0",
		"SafeLogging 0",
		"LogTimeGranularity 1",
		fmt.Sprintf("__OwningControllerProcess %d", os.Getpid()),
		// Parsing the real ones costs about a second a process.
		"GeoIPFile /dev/null",
		"GeoIPv6File /dev/null",
		dirAuthority,
	}
	for _, file := range slices.Sorted(maps.Keys(n.logs)) {
		lines = append(lines, fmt.Sprintf("Log %s file %s", n.logs[file], n.path(file)))
	}
	return lines
}

// relayLines are the torrc lines of every node that others connect to.
func relayLines(orPort int) []string {
	return []string{
		fmt.Sprintf("ORPort 127.0.0.1:%d", orPort),
		"Address 127.0.0.1",
		"SocksPort 0",
		"AssumeReachable 1",
		"ServerDNSDetectHijacking 0",
		"ServerDNSTestAddresses",
	}
}

// writeTorrc writes the node's torrc.
func (n *Node) writeTorrc(lines []string) error {
	for _, line := range lines {
		if strings.ContainsAny(line, "\r\n") {
			return fmt.Errorf("a torrc line must not hold a line break: %q", line)
		}
	}
	return os.WriteFile(n.path("torrc"), []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}
