package hub_test

import (
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// someLives are n sandboxes of several consumers on several hosts within the
// last two hours, with every state that there is once n is 8.
func someLives(n int, now time.Time) []*life {
	projects := []string{"shop", "billing", "search"}
	hosts := []string{"sandboxer01", "sandboxer02", "builder-eu"}
	var all []*life
	for i := range n {
		began := now.Add(-time.Duration(7+(i*37)%110) * time.Minute)
		l := newLife(idOf(i+1), began).by(projects[i%3], fmt.Sprintf("worker-%d", i%2), hosts[i/3%3])
		build := time.Duration(40+(i*53)%240) * time.Second
		price := sandboxer.Cost{Currency: "EUR", MicrosPerHour: 120_000}
		l.next.Estimate = &price
		switch i % 8 {
		case 0:
			l.up(build).to(2*time.Minute, sandboxer.StateActive, sandboxer.ReasonActivated, "")
		case 1:
			l.up(build).to(time.Minute, sandboxer.StateActive, sandboxer.ReasonActivated, "").
				to(90*time.Second, sandboxer.StateReady, sandboxer.ReasonDeactivated, "").down(30*time.Second, sandboxer.ReasonConsumerRequest)
		case 2:
			l.to(0, sandboxer.StateRequested, sandboxer.ReasonRequested, "").
				to(time.Second, sandboxer.StateProvisioning, sandboxer.ReasonRouted, "").
				to(build, sandboxer.StateFailed, sandboxer.ReasonNotReady, "service db: exited with code 1: FATAL: password authentication failed")
			l.next.ErrorCode = "not_ready"
			if i > 8 {
				l.down(time.Minute, sandboxer.ReasonFailedCreate)
			}
		case 3:
			l.up(build)
		case 4:
			l.up(build).to(time.Minute, sandboxer.StateLost, sandboxer.ReasonHostUnavailable, "connection refused")
			if i > 8 {
				l.to(90*time.Second, sandboxer.StateReady, sandboxer.ReasonReturned, "")
			}
		case 5:
			l.up(build).to(2*time.Minute, sandboxer.StateDestroying, sandboxer.ReasonExpired, "")
		case 6:
			l.to(0, sandboxer.StateRequested, sandboxer.ReasonRequested, "")
		case 7:
			l.to(0, sandboxer.StateRequested, sandboxer.ReasonRequested, "").
				to(time.Second, sandboxer.StateProvisioning, sandboxer.ReasonRouted, "")
		}
		all = append(all, l)
	}
	return all
}
