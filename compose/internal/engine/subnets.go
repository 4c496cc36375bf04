package engine

import (
	"context"
	"net/http"
	"net/netip"
)

// Subnets lists the subnets of all the engine's networks, whoever made them.
func (c *Client) Subnets(ctx context.Context) ([]netip.Prefix, error) {
	var answer []struct {
		IPAM struct{ Config []struct{ Subnet string } }
	}
	if err := c.call(ctx, request{method: http.MethodGet, path: "/networks"}, &answer); err != nil {
		return nil, err
	}
	var all []netip.Prefix
	for _, network := range answer {
		for _, pool := range network.IPAM.Config {
			if p, err := netip.ParsePrefix(pool.Subnet); err == nil {
				all = append(all, p)
			}
		}
	}
	return all, nil
}
