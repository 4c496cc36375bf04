// Package wire is the language between a client and the relay program, spoken over the program's standard streams.
//
// Each side sends frames: a header of four bytes, the kind and a length of 24 bits with the most significant first, and
// that many bytes. Streams alone would not do. The end of one cannot tell a connection that was closed for writing from
// a client or relay that is gone; the engine does not pass on the end of the output before that of the process; and it
// loses input that is still on its way when a client goes.
package wire

// Version changes with the language.
const Version = "1"

// Kind is what a frame means.
type Kind byte

// The frames. The relay begins with Open or Failed. No kind is a printable character, so that words of the engine's
// own cannot be mistaken for a frame.
const (
	Open   Kind = 1 // from the relay: the connection is made
	Data   Kind = 2 // bytes of the connection
	End    Kind = 3 // the sender sends no more data
	Failed Kind = 4 // from the relay, last: the connection could not be made, or broke, for this reason
	Taken  Kind = 5 // from the relay: all up to the client's End was taken; before, the client must not go
)

const (
	// HeaderSize is the length of a header, in bytes.
	HeaderSize = 4
	// MaxPayload is the length of the longest frame without its header, in bytes.
	MaxPayload = 32 << 10
)

// PutHeader writes the header of a frame of n bytes into the first bytes of b.
func PutHeader(b []byte, kind Kind, n int) {
	b[0], b[1], b[2], b[3] = byte(kind), byte(n>>16), byte(n>>8), byte(n)
}

// ParseHeader reads a header. It reports false for what cannot be one.
func ParseHeader(b []byte) (kind Kind, n int, ok bool) {
	kind = Kind(b[0])
	n = int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	return kind, n, Open <= kind && kind <= Taken && n <= MaxPayload
}
