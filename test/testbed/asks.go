/*
Copyright 2026 The KubeLB GitOps Authors.

Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
*/

package testbed

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// askTimeout bounds one question to an echo pod.
const askTimeout = 5 * time.Second

// AskHTTP sends a GET to an echo pod behind host:port, on a connection of its own.
func AskHTTP(ctx context.Context, address string) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return Reply{}, err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return Reply{}, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return Reply{}, err
	}
	if response.StatusCode != http.StatusOK {
		return Reply{}, fmt.Errorf("%s answers %s: %s", address, response.Status, text)
	}
	return decodeReply(text)
}

// AskTCP sends a line to an echo pod behind host:port, on a connection of its own.
func AskTCP(ctx context.Context, address, line string) (Reply, error) {
	return ask(ctx, "tcp", address, line+"\n")
}

// AskUDP sends a datagram to an echo pod behind host:port, from a port of its own.
func AskUDP(ctx context.Context, address, data string) (Reply, error) {
	return ask(ctx, "udp", address, data)
}

func ask(ctx context.Context, network, address, data string) (Reply, error) {
	return askFrom(ctx, network, "", address, data)
}

// askFrom asks from a UDP address of one's own, or from any.
func askFrom(ctx context.Context, network, local, address, data string) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var dialer net.Dialer
	if local != "" {
		from, err := net.ResolveUDPAddr(network, local)
		if err != nil {
			return Reply{}, err
		}
		dialer.LocalAddr = from
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return Reply{}, err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return Reply{}, err
	}
	if _, err := io.WriteString(conn, data); err != nil {
		return Reply{}, err
	}
	text, err := bufio.NewReaderSize(conn, 64<<10).ReadBytes('\n')
	if err != nil {
		return Reply{}, err
	}
	return decodeReply(text)
}

func decodeReply(text []byte) (Reply, error) {
	var reply Reply
	if err := json.Unmarshal(text, &reply); err != nil {
		return reply, fmt.Errorf("not the answer of an echo pod: %q", text)
	}
	return reply, nil
}
