package sandboxer

import "time"

// MeterOf derives the usage of one sandbox from its complete event history,
// counting the state it is in until now. The host is the last one it had.
func MeterOf(events []Event, now time.Time) Meter {
	m := Meter{Seconds: map[State]float64{}}
	for i, e := range events {
		end := now
		if i+1 < len(events) {
			end = events[i+1].Time
		}
		if !e.State.Terminal() {
			m.Seconds[e.State] += end.Sub(e.Time).Seconds()
		}
		m.SandboxID, m.Consumer = e.SandboxID, e.Consumer
		m.Extension, m.Host = orElse(e.Extension, m.Extension), orElse(e.Host, m.Host)
	}
	return m
}
