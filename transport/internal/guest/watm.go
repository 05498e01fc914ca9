package guest

import (
	"fmt"
	"net"
)

// watmFuncs are the functions of the WATM ABIs themselves. Those of v0 do what
// their successors do.
var watmFuncs = []hostFunc{
	{"water_dial", types(i32, i32, i32, i32), true, waterDial},
	{"water_dial_fixed", nil, true, waterDialFixed},
	{"water_accept", nil, true, waterAccept},
	{"host_dial", nil, true, waterDialFixed},
	{"host_accept", nil, true, waterAccept},
	{"pull_config", nil, true, pullConfig},
	{"host_defer", nil, false, func(*call, []uint64) {}},
}

// water_dial(net_iovs, net_iovs_len, addr_iovs, addr_iovs_len) -> fd
func waterDial(c *call, stack []uint64) {
	network, e1 := c.gathered(stack[0], stack[1])
	address, e2 := c.gathered(stack[2], stack[3])
	if e := max(e1, e2); e != eSuccess {
		stack[0] = e.negative()
		return
	}
	if c.roomForEndpoint(stack) {
		c.connected(stack)(c.in.o.Host.Dial(c.in.life, network, address))
	}
}

// gathered returns the string that an array of ciovecs holds.
func (c *call) gathered(ptr, count uint64) (string, errno) {
	bufs, e := c.iovecs(ptr, count)
	if e != eSuccess {
		return "", e
	}
	var s []byte
	for _, b := range bufs {
		if len(s)+len(b) > 1024 { // longer than any address
			return "", eNametoolong
		}
		s = append(s, b...)
	}
	return string(s), eSuccess
}

// water_dial_fixed() -> fd
func waterDialFixed(c *call, stack []uint64) {
	if c.roomForEndpoint(stack) {
		c.connected(stack)(c.in.o.Host.DialFixed(c.in.life))
	}
}

// water_accept() -> fd
func waterAccept(c *call, stack []uint64) {
	if c.roomForEndpoint(stack) {
		c.connected(stack)(c.in.o.Host.Accept(c.in.life))
	}
}

// roomForEndpoint reports whether the instance may have one more connection, and
// tells the module if not. Connections count until they have been drained, which
// is later than the module's fd_close.
func (c *call) roomForEndpoint(stack []uint64) bool {
	if c.in.many != nil { // it would hold up all connections; there are control records for it
		stack[0] = eNotsup.negative()
		return false
	}
	c.in.endpointsMu.Lock()
	room := len(c.in.endpoints)+c.in.dialing < c.in.o.Limits.Descriptors || c.in.forgetDrained()
	if room {
		c.in.dialing++
	}
	c.in.endpointsMu.Unlock()
	if room {
		return true
	}
	var err error = &LimitError{"open descriptors", c.in.o.Limits.Descriptors}
	c.in.hostErr.Store(&err)
	stack[0] = eMfile.negative()
	return false
}

// connected returns the function that gives a new connection its descriptor.
func (c *call) connected(stack []uint64) func(net.Conn, error) {
	return func(conn net.Conn, err error) {
		c.in.endpointsMu.Lock()
		c.in.dialing--
		c.in.endpointsMu.Unlock()
		if conn != nil && c.in.alive() != nil {
			_ = conn.Close() // the instance was stopped meanwhile
		}
		c.in.checkAlive()
		if err != nil {
			c.in.hostErr.Store(&err)
			stack[0] = toErrno(err).negative()
			return
		}
		p := networkEndpoint(conn, c.in.mode)
		fd, err := c.in.addEndpoint(p)
		if err != nil {
			_ = p.Close()
			c.in.hostErr.Store(&err)
			stack[0] = eMfile.negative()
			return
		}
		stack[0] = uint64(uint32(fd))
	}
}

// pull_config() -> fd
func pullConfig(c *call, stack []uint64) {
	f, err := c.in.configFile()
	if err != nil {
		err = fmt.Errorf("open the module's configuration: %w", err)
		c.in.hostErr.Store(&err)
		stack[0] = toErrno(err).negative()
		return
	}
	fd, ok := c.in.fds.insert(&descriptor{file: f})
	if !ok {
		stack[0] = eMfile.negative()
		return
	}
	stack[0] = uint64(uint32(fd))
}
