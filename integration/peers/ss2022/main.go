// Command ss2022 is either end of shadowsocks' 2022 edition, as another implementation
// (sing-shadowsocks) speaks it. As a client it takes TCP connections, as a server it passes
// them on, whatever address the client asked for.
package main

import (
	"context"
	"flag"
	"log"
	"net"

	shadowsocks "github.com/sagernet/sing-shadowsocks"
	"github.com/sagernet/sing-shadowsocks/shadowaead_2022"
	"github.com/sagernet/sing/common/bufio"
	metadata "github.com/sagernet/sing/common/metadata"
	"github.com/sagernet/sing/common/network"
)

func main() {
	method := flag.String("m", "", "method")
	key := flag.String("k", "", "key, in base64")
	listen := flag.String("l", "", "address to listen at")
	to := flag.String("to", "", "address to connect to: the server's or, of a server, the destination")
	server := flag.Bool("server", false, "be a server")
	flag.Parse()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	client, err := shadowaead_2022.NewWithPassword(*method, *key, nil)
	if err != nil {
		log.Fatal(err)
	}
	service, err := shadowaead_2022.NewServiceWithPassword(*method, *key, 300, destination(*to), nil)
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer conn.Close()
			if *server {
				err = service.NewConnection(context.Background(), conn, metadata.Metadata{})
			} else {
				err = dial(client, conn, *to)
			}
			if err != nil {
				log.Print(err)
			}
		}()
	}
}

func dial(method shadowsocks.Method, near net.Conn, server string) error {
	wire, err := net.Dial("tcp", server)
	if err != nil {
		return err
	}
	// It sends its header with the first bytes.
	far := method.DialEarlyConn(wire, metadata.ParseSocksaddr("192.0.2.7:443"))
	return bufio.CopyConn(context.Background(), near, far)
}

// destination is where a server's connections go.
type destination string

func (d destination) NewConnection(ctx context.Context, conn net.Conn, _ metadata.Metadata) error {
	far, err := net.Dial("tcp", string(d))
	if err != nil {
		return err
	}
	return bufio.CopyConn(ctx, conn, far)
}

func (d destination) NewPacketConnection(context.Context, network.PacketConn, metadata.Metadata) error {
	return net.ErrClosed
}

func (d destination) NewError(_ context.Context, err error) { log.Print(err) }
