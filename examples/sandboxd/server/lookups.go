package server

import (
	"context"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

func (s *Server) listProfiles(c *call) error {
	return s.answer(c, http.StatusOK, api.ProfileList{Profiles: s.client.Profiles()})
}

// hostsFresh is how old a probe of the hosts may be. Each costs a connection
// to every host, and every open page asks for them.
const hostsFresh = 5 * time.Second

type hostCache struct {
	mu    sync.Mutex
	at    time.Time
	hosts []api.HostRoom
}

func (s *Server) listHosts(c *call) error {
	return s.answer(c, http.StatusOK, api.HostList{Hosts: s.probedHosts()})
}

// probedHosts asks on the server's own account: whoever asked first may leave.
func (s *Server) probedHosts() []api.HostRoom {
	s.hosts.mu.Lock()
	defer s.hosts.mu.Unlock()
	if time.Since(s.hosts.at) > hostsFresh {
		s.hosts.hosts, s.hosts.at = s.probe(s.base), time.Now()
	}
	return s.hosts.hosts
}

func (s *Server) probe(ctx context.Context) []api.HostRoom {
	rooms := []api.HostRoom{}
	for _, status := range s.client.Hosts(ctx) {
		room := api.HostRoom{HostStatus: status}
		if status.Available && status.Host.Slots > 0 {
			room.FreeSlots = new(max(0, status.Host.Slots-status.Sandboxes))
		}
		rooms = append(rooms, room)
	}
	return rooms
}

// getUsage counts what the caller sees.
func (s *Server) getUsage(c *call) error {
	by := sandboxer.MeterBy(c.params.text("by"))
	if by == "" {
		by = sandboxer.ByConsumer
	}
	events, err := s.client.EventsAfter(c.Request.Context(), sandboxer.EventPosition{}, c.who.project(), math.MaxInt)
	if err != nil {
		return err
	}
	window := sandboxer.Window{Since: c.params.moment("since"), Until: c.params.moment("until")}
	return s.answer(c, http.StatusOK, api.Usage{Meters: sandboxer.MetersOf(events, by, window)})
}

// getHealth answers whether the store can be read.
func (s *Server) getHealth(c *call) error {
	ctx, cancel := context.WithTimeout(c.Request.Context(), 5*time.Second)
	defer cancel()
	if _, err := s.client.Get(ctx, "health"); err != nil && sandboxer.Code(err) != "not_found" {
		return refuse(http.StatusServiceUnavailable, "unavailable", api.ClassNoHost, "the store cannot be read: %v", err)
	}
	return s.answer(c, http.StatusOK, api.Health{Status: "ok"})
}

func (s *Server) getOpenAPI(c *call) error {
	s.send(c, "application/openapi+json", http.StatusOK, api.OpenAPI())
	return nil
}
