package hub

import "time"

// A tick is a moment on the axis.
type tick struct {
	X     percent
	Label string
}

// mostTicks is how many labels stand side by side without touching.
const mostTicks = 7

// steps are the distances between ticks that people can read, in seconds.
func steps() []int64 {
	const minute, hour, day = 60, 60 * 60, 24 * 60 * 60
	return []int64{
		1, 2, 5, 10, 15, 30, minute, 2 * minute, 5 * minute, 10 * minute, 15 * minute, 30 * minute,
		hour, 2 * hour, 3 * hour, 6 * hour, 12 * hour, day, 2 * day, 7 * day, 14 * day, 30 * day, 90 * day, 365 * day,
	}
}

// step is the distance between ticks for a span of so many seconds.
func step(seconds int64) int64 {
	all := steps()
	for _, s := range all {
		if seconds <= s*mostTicks {
			return s
		}
	}
	s := all[len(all)-1]
	for seconds > s*mostTicks {
		s *= 2
	}
	return s
}

// ticks are at whole multiples of a step, UTC, and not at the very edges,
// where a label would be cut.
func (s span) ticks() []tick {
	const edge = 4
	from, to := s.from.Unix(), s.to.Unix()
	distance := step(to - from)
	var out []tick
	for t := (from/distance - 1) * distance; t <= to; t += distance {
		at := time.Unix(t, 0).UTC()
		if x := s.at(at); x >= edge && x <= 100-edge {
			out = append(out, tick{percent(x), tickLabel(at, distance)})
		}
	}
	return out
}

func tickLabel(t time.Time, distance int64) string {
	midnight := t.Hour() == 0 && t.Minute() == 0 && t.Second() == 0
	switch {
	case distance >= 300*24*60*60:
		return t.Format("Jan 2006")
	case distance >= 24*60*60 || midnight:
		return t.Format("Jan 2")
	case distance < 60:
		return t.Format("15:04:05")
	}
	return t.Format("15:04")
}
