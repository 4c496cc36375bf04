package relay_test

import (
	"fmt"
	"io"
	"testing"
)

func BenchmarkDial(b *testing.B) {
	s := newSite(b)
	for b.Loop() {
		conn, err := s.dial(b.Context(), 9001)
		if err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	s := newSite(b)
	conn := s.mustDial(b, 9001)
	one := make([]byte, 1)
	for b.Loop() {
		if _, err := conn.Write(one); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(one); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDownload(b *testing.B) {
	s := newSite(b)
	client := s.http(b)
	const size = 16 << 20
	b.SetBytes(size)
	for b.Loop() {
		resp, err := client.Get(fmt.Sprintf("http://server/bytes?n=%d", size))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
}
