package guest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"waterproxy/transport/internal/stream"
)

// errno is a WASI preview 1 error number.
type errno uint32

// The numbers that the host uses (WASI preview 1, "errno").
const (
	eSuccess      errno = 0
	eAcces        errno = 2
	eAgain        errno = 6
	eBadf         errno = 8
	eBadmsg       errno = 9
	eCanceled     errno = 11
	eConnAborted  errno = 13
	eConnRefused  errno = 14
	eConnReset    errno = 15
	eExist        errno = 20
	eFault        errno = 21
	eHostUnreach  errno = 23
	eInval        errno = 28
	eIO           errno = 29
	eIsdir        errno = 31
	eMfile        errno = 33
	eNetUnreach   errno = 40
	eNoent        errno = 44
	eNosys        errno = 52
	eNotconn      errno = 53
	eNotdir       errno = 54
	eNotempty     errno = 55
	eNotsock      errno = 57
	eNotsup       errno = 58
	eNospc        errno = 51
	eRofs         errno = 69
	ePerm         errno = 63
	ePipe         errno = 64
	eSpipe        errno = 70
	eTimedout     errno = 73
	eNotcapable   errno = 76
	eNametoolong  errno = 37
	eAddrnotavail errno = 4
)

var errnos = []struct {
	err error
	no  errno
}{
	{stream.ErrWouldBlock, eAgain},
	{stream.ErrTooSmall, eInval},
	{net.ErrClosed, eBadf},
	{io.ErrClosedPipe, ePipe},
	{syscall.EPIPE, ePipe},
	{syscall.ECONNRESET, eConnReset},
	{syscall.ECONNREFUSED, eConnRefused},
	{syscall.ECONNABORTED, eConnAborted},
	{syscall.EHOSTUNREACH, eHostUnreach},
	{syscall.ENETUNREACH, eNetUnreach},
	{syscall.EADDRNOTAVAIL, eAddrnotavail},
	{syscall.ENOTCONN, eNotconn},
	{syscall.ETIMEDOUT, eTimedout},
	{os.ErrDeadlineExceeded, eTimedout},
	{context.DeadlineExceeded, eTimedout},
	{context.Canceled, eCanceled},
	{syscall.ENOSPC, eNospc},
	{syscall.EROFS, eRofs},
	{syscall.ENOTEMPTY, eNotempty},
	{syscall.EISDIR, eIsdir},
	{syscall.ENOTDIR, eNotdir},
	{syscall.ENAMETOOLONG, eNametoolong},
	{os.ErrNotExist, eNoent},
	{os.ErrExist, eExist},
	{os.ErrPermission, eAcces},
	{syscall.EINVAL, eInval},
	{os.ErrInvalid, eInval},
}

// toErrno maps a host error to what the module gets. The error's text, which
// may hold addresses, stays on the host.
func toErrno(err error) errno {
	if err == nil {
		return eSuccess
	}
	for _, e := range errnos {
		if errors.Is(err, e.err) {
			return e.no
		}
	}
	return eIO
}

// negative is how WATM functions return an error.
func (e errno) negative() uint64 { return uint64(uint32(-int32(e))) }
