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

package git

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Git frames its messages in packets: four hexadecimal digits of length, which
// count themselves, then the payload. Lengths 0 to 2 are marks.
type packet int

const (
	flushPacket packet = 0
	delimPacket packet = 1
	endPacket   packet = 2
	dataPacket  packet = 4
)

const maxPacket = 65520

// The longest answers that are read, in bytes, as they are after decompression:
// a list of refs, a pack as it is sent, and the outcome of a push.
const (
	maxRefsAnswer   = 64 << 20
	maxPackAnswer   = 1 << 30
	maxReportAnswer = 8 << 20
)

type packetReader struct {
	r   *bufio.Reader
	buf [maxPacket]byte
}

// newPacketReader reads an answer of at most limit bytes.
func newPacketReader(r io.Reader, limit int64) *packetReader {
	return &packetReader{r: bufio.NewReaderSize(&limited{r, limit}, 32<<10)}
}

// limited fails where an answer is longer than it may be.
type limited struct {
	io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, &callError{kind: ErrUnavailable, cause: fmt.Errorf("the answer is %w", ErrTooLarge), sent: true}
	}
	n, err := l.Reader.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// next returns the next packet. The payload is valid until the next call. At
// the end of the stream, between packets, the error is io.EOF.
func (p *packetReader) next() (packet, []byte, error) {
	if _, err := io.ReadFull(p.r, p.buf[:4]); err != nil {
		if errors.Is(err, io.EOF) {
			return 0, nil, io.EOF
		}
		return 0, nil, cutOff(err)
	}
	n, err := strconv.ParseUint(string(p.buf[:4]), 16, 16)
	switch {
	case err != nil || n == 3 || n > maxPacket:
		return 0, nil, fmt.Errorf("%w: packet length %q", ErrProtocol, p.buf[:4])
	case n < 4:
		return packet(n), nil, nil
	}
	data := p.buf[:n-4]
	if _, err := io.ReadFull(p.r, data); err != nil {
		return 0, nil, cutOff(err)
	}
	if words, ok := bytes.CutPrefix(data, []byte("ERR ")); ok {
		return 0, nil, serverSays(string(words))
	}
	return dataPacket, data, nil
}

// line returns the next packet's text, or ok false at a mark. The stream must
// not end here.
func (p *packetReader) line() (text string, ok bool, err error) {
	kind, data, err := p.next()
	switch {
	case errors.Is(err, io.EOF):
		return "", false, cutOff(err)
	case err != nil:
		return "", false, err
	}
	return strings.TrimSuffix(string(data), "\n"), kind == dataPacket, nil
}

func cutOff(err error) error {
	if call := (*callError)(nil); errors.As(err, &call) {
		return err // the transport knows more
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = errors.New("the answer was cut off")
	}
	return &callError{kind: ErrUnavailable, cause: err, sent: true}
}

// serverSays is the error for a refusal in the server's own words.
func serverSays(words string) error {
	kind := ErrUnavailable
	if strings.Contains(words, "not our ref") {
		kind = ErrMissing
	}
	cause := fmt.Errorf("the server says %q", printable(words, 300))
	if strings.Contains(words, "repository corruption") { // Git's own words when it cannot read an object
		cause = fmt.Errorf("%w: %w", ErrMalformed, cause)
	}
	return &callError{kind: kind, cause: cause, sent: true}
}

// sideband reads the stream in band 1 of a multiplexed answer, up to its
// flush packet, and keeps what the server prints in band 2.
type sideband struct {
	packets  *packetReader
	rest     []byte
	messages bytes.Buffer
	err      error
}

func (s *sideband) Read(p []byte) (int, error) {
	for len(s.rest) == 0 && s.err == nil {
		s.err = s.fill()
	}
	if len(s.rest) == 0 {
		return 0, s.err
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *sideband) fill() error {
	kind, data, err := s.packets.next()
	switch {
	case errors.Is(err, io.EOF):
		return cutOff(io.ErrUnexpectedEOF)
	case err != nil:
		return err
	case kind != dataPacket:
		return io.EOF
	case len(data) == 0:
		return nil
	}
	switch data[0] {
	case 1:
		s.rest = data[1:]
	case 2:
		if s.messages.Len() < 4<<10 {
			s.messages.Write(data[1:])
		}
	case 3:
		return serverSays(string(data[1:]))
	default:
		return fmt.Errorf("%w: band %d", ErrProtocol, data[0])
	}
	return nil
}

// failure is the error that ended the stream early, if one did.
func (s *sideband) failure() error {
	if errors.Is(s.err, io.EOF) {
		return nil
	}
	return s.err
}

// packetWriter builds a request.
type packetWriter struct{ bytes.Buffer }

func (w *packetWriter) linef(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintf(&w.Buffer, "%04x%s\n", len(text)+5, text)
}

func (w *packetWriter) mark(kind packet) { fmt.Fprintf(&w.Buffer, "%04x", int(kind)) }
