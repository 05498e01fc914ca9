package transport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"

	"waterproxy/transport/internal/guest"
)

// KindKey is the key of an attribute of log records about failures that come in any
// number. Its value names the kind of the failure, so that a log can count those of a
// kind instead of writing each.
const KindKey = "kind"

// Kinds that users may treat apart.
const (
	// KindArguments is the refusal of a bridge line's arguments in a dial.
	KindArguments = "arguments refused by the module"
	// KindTimeout is a failure for want of an answer.
	KindTimeout = "timed out"
)

// wasiEINVAL is the number with which modules of the SDK refuse arguments.
const wasiEINVAL = 28

// Kind names the kind of a failure in one of a few fixed words, "" for nil. own reports
// whether the failure is one of this side (a limit, a trap, the operator's settings), and
// not of the network, or of whoever is at the other end.
func Kind(err error) (name string, own bool) {
	if err == nil {
		return "", false
	}
	for _, k := range kinds {
		if k.is(err) {
			return k.name, k.own
		}
	}
	return "other errors", false
}

// logFailure logs the failure of a connection: as a warning if it is one of this side,
// and otherwise as what is normal on a network.
func logFailure(log *slog.Logger, message string, err error) {
	kind, own := Kind(err)
	level := slog.LevelInfo
	if own {
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, message, KindKey, kind, "error", Scrub(err))
}

// kinds lists what Kind knows. The first that matches counts.
var kinds = []struct {
	is   func(error) bool
	name string
	own  bool
}{
	{errIs(errSetupTimeout), KindTimeout, false}, // an ErrLimit, but the peer's silence
	{errAs[*ProxyError], "upstream proxy", true},
	{errAs[*net.DNSError], "name lookup failed", false},
	{errIs(syscall.EMFILE, syscall.ENFILE), "out of descriptors", true},
	{errIs(syscall.ECONNREFUSED), "connection refused", false},
	{errIs(syscall.ENETUNREACH), "network unreachable", false},
	{errIs(syscall.EHOSTUNREACH), "host unreachable", false},
	{errIs(syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED), "connection reset", false},
	{errIs(syscall.ETIMEDOUT, context.DeadlineExceeded, os.ErrDeadlineExceeded), KindTimeout, false},
	{errIs(context.Canceled), "cancelled", false},
	{errIs(ErrPolicy), "address not granted", true},
	{errIs(ErrTrap), "module trapped", true},
	{errIs(ErrLimit), "limit reached", true},
	{errIs(ErrConfig, ErrRole), "configuration", true},
	{errAs[*guest.BrokenError], "module broke its ABI", true},
	{refusesArgs, KindArguments, false},
	{errIs(ErrModule), "given up by the module", false},
	{errIs(io.EOF, io.ErrUnexpectedEOF, net.ErrClosed), "connection closed", false},
	{timedOut, KindTimeout, false},
	{errIs(ErrNetwork), "network error", false},
}

func errIs(targets ...error) func(error) bool {
	return func(err error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
}

func errAs[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func timedOut(err error) bool {
	slow, ok := errors.AsType[net.Error](err)
	return ok && slow.Timeout()
}

func refusesArgs(err error) bool {
	if fail, ok := errors.AsType[*guest.FailError](err); ok {
		return fail.Errno == wasiEINVAL
	}
	result, ok := errors.AsType[*guest.ResultError](err)
	return ok && result.Result == -wasiEINVAL
}
