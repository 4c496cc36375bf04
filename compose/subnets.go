package compose

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/sand-boxer/sandboxer"
)

// prefixFor is the longest prefix that holds n containers besides the network
// and broadcast addresses, the gateway and our relay; /28 at most, so that
// networks of a few containers are all alike.
func prefixFor(n int) int {
	return min(28, 32-bits.Len(uint(n+4-1)))
}

// allocate picks a free subnet of the range for every network. The engine's
// default pools hold about 30 networks per host; a range of our own holds
// thousands. Where to begin is random, so that concurrent creates seldom want
// the same; the host decides who gets it.
func allocate(pool netip.Prefix, networks map[string]int, taken []netip.Prefix) (map[string]netip.Prefix, error) {
	out := map[string]netip.Prefix{}
	taken = slices.Clone(taken)
	for key, containers := range networks {
		p, err := freeSubnet(pool, prefixFor(containers), taken)
		if err != nil {
			return nil, err
		}
		out[key] = p
		taken = append(taken, p)
	}
	return out, nil
}

func freeSubnet(pool netip.Prefix, size int, taken []netip.Prefix) (netip.Prefix, error) {
	if size < pool.Bits() {
		return netip.Prefix{}, fmt.Errorf("%w: a network of /%d does not fit into the host's range %v", sandboxer.ErrLimit, size, pool)
	}
	count := uint32(1) << (size - pool.Bits())
	base := binary.BigEndian.Uint32(pool.Masked().Addr().AsSlice())
	start := rand.Uint32N(count)
	for i := range count {
		var raw [4]byte
		binary.BigEndian.PutUint32(raw[:], base+((start+i)%count)<<(32-size))
		candidate := netip.PrefixFrom(netip.AddrFrom4(raw), size)
		if !slices.ContainsFunc(taken, candidate.Overlaps) {
			return candidate, nil
		}
	}
	return netip.Prefix{}, sandboxer.WithHint(fmt.Errorf("%w: every subnet of %v is taken", sandboxer.ErrLimit, pool), "give the host a larger range (subnets in its configuration)")
}

// pool is the range that the host's sandboxes take their networks from.
func (h HostConfig) pool() netip.Prefix { return netip.MustParsePrefix(h.Subnets) }
