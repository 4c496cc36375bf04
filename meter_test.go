package sandboxer_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// A history is the events of one sandbox, one after another.
type history struct {
	first  sandboxer.Event
	events []sandboxer.Event
}

func newHistory(id string) *history {
	return &history{first: sandboxer.Event{
		SandboxID: id, Profile: "profile.basic", Time: noon, Generation: 1,
		Consumer:  sandboxer.Consumer{Project: "shop", ActorType: sandboxer.ActorAgent, Actor: "coder", Run: id},
		Resources: &sandboxer.Resources{CPUs: 2, Memory: 1 << 30},
	}}
}

// then adds an event so many seconds after the one before.
func (h *history) then(after int, state sandboxer.State, edits ...func(*sandboxer.Event)) *history {
	e := h.first
	if n := len(h.events); n > 0 {
		e = h.events[n-1]
		e.Time = e.Time.Add(time.Duration(after) * time.Second)
	}
	e.Seq++
	e.State, e.Reachability = state, nil
	for _, edit := range edits {
		edit(&e)
	}
	h.events = append(h.events, e)
	return h
}

func on(host, currency string, microsPerHour int64) func(*sandboxer.Event) {
	return func(e *sandboxer.Event) {
		e.Host, e.Estimate = host, &sandboxer.Cost{Currency: currency, MicrosPerHour: microsPerHour}
	}
}

func generation(n int) func(*sandboxer.Event) { return func(e *sandboxer.Event) { e.Generation = n } }

// reached has two containers that run and one that is done.
func reached(e *sandboxer.Event) {
	e.Reachability = &sandboxer.Reachability{Services: []sandboxer.Service{
		{Name: "web", Containers: []string{"web-1", "web-2"}, State: "running"}, {Name: "seed", Containers: []string{"seed-1"}, State: "completed"},
	}}
}

func after(seconds int) sandboxer.Window {
	return sandboxer.Window{Until: noon.Add(time.Duration(seconds) * time.Second)}
}

func TestMeterOf(t *testing.T) {
	const (
		requested, provisioning, ready, active = sandboxer.StateRequested, sandboxer.StateProvisioning, sandboxer.StateReady, sandboxer.StateActive
		failed, lost, destroying, destroyed    = sandboxer.StateFailed, sandboxer.StateLost, sandboxer.StateDestroying, sandboxer.StateDestroyed
	)
	type seconds map[sandboxer.State]float64
	euro := func(micros int64) []sandboxer.Amount { return []sandboxer.Amount{{Currency: "EUR", Micros: micros}} }
	up := func() *history {
		return newHistory("one").then(0, requested).then(5, provisioning, on("a", "EUR", 3_600_000)).then(10, ready, reached)
	}
	for _, tt := range []struct {
		name   string
		events []sandboxer.Event
		window sandboxer.Window
		want   sandboxer.Meter
	}{
		{"a whole life", up().then(100, active, reached).then(200, destroying).then(3, destroyed).events, after(10_000), sandboxer.Meter{
			Generations: 1, Seconds: seconds{requested: 5, provisioning: 10, ready: 100, active: 200, destroying: 3},
			Held: 313, CPUSeconds: 2 * 2 * 300, MemorySeconds: 2 << 30 * 300, Costs: euro(313_000),
		}},
		{"one that stands counts until now", up().events, after(45), sandboxer.Meter{
			Generations: 1, Seconds: seconds{requested: 5, provisioning: 10, ready: 30},
			Held: 40, CPUSeconds: 4 * 30, MemorySeconds: 2 << 30 * 30, Costs: euro(40_000),
		}},
		{"a recreate holds nothing between its generations", up().then(50, destroying).then(2, requested, generation(2)).then(4, provisioning).then(8, ready, reached).events, after(100), sandboxer.Meter{
			Generations: 2, Seconds: seconds{requested: 9, provisioning: 18, ready: 71, destroying: 2},
			Held: 91, CPUSeconds: 4 * 71, MemorySeconds: 2 << 30 * 71, Costs: euro(91_000),
		}},
		{"lost and seen again was there all along", up().then(10, lost).then(20, ready, reached).events, after(60), sandboxer.Meter{
			Generations: 1, Seconds: seconds{requested: 5, provisioning: 10, ready: 25, lost: 20},
			Held: 55, CPUSeconds: 4 * 45, MemorySeconds: 2 << 30 * 45, Costs: euro(55_000),
		}},
		{"lost for two reasons and seen again", up().then(10, lost).then(8, lost).then(12, ready, reached).events, after(60), sandboxer.Meter{
			Generations: 1, Seconds: seconds{requested: 5, provisioning: 10, ready: 25, lost: 20},
			Held: 55, CPUSeconds: 4 * 45, MemorySeconds: 2 << 30 * 45, Costs: euro(55_000),
		}},
		{"lost and never seen again counts until it was lost", up().then(10, lost).then(20, destroying).then(5, destroyed).events, after(60), sandboxer.Meter{
			Generations: 1, Seconds: seconds{requested: 5, provisioning: 10, ready: 10, lost: 20, destroying: 5},
			Held: 25, CPUSeconds: 4 * 10, MemorySeconds: 2 << 30 * 10, Costs: euro(25_000),
		}},
		{"still lost", up().then(10, lost).events, after(60), sandboxer.Meter{
			Generations: 1, Seconds: seconds{requested: 5, provisioning: 10, ready: 10, lost: 35},
			Held: 20, CPUSeconds: 4 * 10, MemorySeconds: 2 << 30 * 10, Costs: euro(20_000),
		}},
		{"a failure that is kept is held, without containers that run", newHistory("one").then(0, requested).then(5, provisioning, on("a", "EUR", 3_600_000)).then(10, failed).events, after(100), sandboxer.Meter{
			Generations: 1, Seconds: seconds{requested: 5, provisioning: 10, failed: 85}, Held: 95, Costs: euro(95_000),
		}},
		{"two hosts with two currencies", newHistory("one").then(0, requested).then(1, provisioning, on("a", "EUR", 3_600_000)).then(10, provisioning, on("b", "USD", 7_200_000)).then(5, ready, reached).events, after(26), sandboxer.Meter{
			Generations: 1, Seconds: seconds{requested: 1, provisioning: 15, ready: 10}, Held: 25, CPUSeconds: 40, MemorySeconds: 2 << 30 * 10,
			Costs: []sandboxer.Amount{{Currency: "EUR", Micros: 10_000}, {Currency: "USD", Micros: 30_000}},
		}},
		{"only what lies in the window", up().then(100, active, reached).then(200, destroying).events, sandboxer.Window{Since: noon.Add(65 * time.Second), Until: noon.Add(120 * time.Second)}, sandboxer.Meter{
			Seconds: seconds{ready: 50, active: 5}, Held: 55, CPUSeconds: 4 * 55, MemorySeconds: 2 << 30 * 55, Costs: euro(55_000),
		}},
		{"a clock that was set back counts as nothing", up().then(-100, active, reached).events, after(5), sandboxer.Meter{
			Seconds: seconds{requested: 5, active: 90}, Held: 90, CPUSeconds: 4 * 90, MemorySeconds: 2 << 30 * 90, Costs: euro(90_000),
		}},
		{"money is rounded once", newHistory("one").then(0, requested).then(1, provisioning, on("a", "EUR", 1)).then(900, ready).then(900, active).events, after(5401), sandboxer.Meter{
			Generations: 1, Seconds: seconds{requested: 1, provisioning: 900, ready: 900, active: 3600}, Held: 5400, Costs: euro(2),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.By, tt.want.Key, tt.want.Consumer = sandboxer.BySandbox, "one", &newHistory("one").first.Consumer
			tt.want.Sandboxes = 1
			if diff := cmp.Diff(tt.want, sandboxer.MeterOf(tt.events, tt.window)); diff != "" {
				t.Errorf("meter (-want +got):\n%s", diff)
			}
		})
	}
	if got := sandboxer.MeterOf(nil, after(1)); got.Held != 0 || got.Costs == nil || got.Seconds == nil {
		t.Errorf("without events: %+v", got)
	}
}

func TestMetersAddUp(t *testing.T) {
	life := func(id, host string, seconds int) []sandboxer.Event {
		return newHistory(id).then(0, sandboxer.StateRequested).then(0, sandboxer.StateProvisioning, on(host, "EUR", 3_600_000)).then(10, sandboxer.StateReady).
			then(seconds-10, sandboxer.StateDestroying).then(0, sandboxer.StateDestroyed).events
	}
	events := append(append(life("one", "a", 100), life("two", "a", 50)...), life("three", "b", 25)...)
	moved := newHistory("four").then(0, sandboxer.StateRequested).then(0, sandboxer.StateProvisioning, on("a", "EUR", 0)).
		then(30, sandboxer.StateProvisioning, on("b", "EUR", 0)).then(10, sandboxer.StateDestroying).then(0, sandboxer.StateDestroyed).events
	events = append(events, moved...)
	for by, want := range map[sandboxer.MeterBy]map[string][2]int{ // sandboxes, seconds held
		sandboxer.BySandbox:  {"one": {1, 100}, "two": {1, 50}, "three": {1, 25}, "four": {1, 40}},
		sandboxer.ByConsumer: {"shop/agt:coder": {4, 215}},
		sandboxer.ByProject:  {"shop": {4, 215}},
		sandboxer.ByHost:     {"a": {3, 180}, "b": {2, 35}},
		sandboxer.ByProfile:  {"profile.basic": {4, 215}},
	} {
		got := map[string][2]int{}
		for _, m := range sandboxer.MetersOf(events, by, after(1000)) {
			if m.By != by {
				t.Errorf("by %s gives a meter by %s", by, m.By)
			}
			got[m.Key] = [2]int{m.Sandboxes, int(m.Held)}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("by %s (-want +got):\n%s", by, diff)
		}
	}
}

// The meter of a life as a client records it.
func TestUsageOfARecordedLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{fault: extensiontest.Faults(extensiontest.SlowAt("ready", "", 10*time.Second), extensiontest.SlowAt("teardown", "look", time.Second))})
		id := w.create(c).ID
		steps := []struct {
			after time.Duration
			do    func(context.Context, string) (*sandboxer.Sandbox, error)
		}{{time.Minute, c.Activate}, {2 * time.Minute, c.Deactivate}, {3 * time.Minute, c.Activate}, {4 * time.Minute, c.Destroy}}
		for _, step := range steps {
			time.Sleep(step.after)
			if _, err := step.do(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		got, err := c.Usage(t.Context(), sandboxer.BySandbox, sandboxer.Window{})
		if err != nil || len(got) != 1 {
			t.Fatalf("usage is %+v, %v", got, err)
		}
		consumer := basicRequest().Consumer
		want := sandboxer.Meter{
			By: sandboxer.BySandbox, Key: id, Consumer: &consumer, Sandboxes: 1, Generations: 1,
			Seconds: map[sandboxer.State]float64{
				sandboxer.StateProvisioning: 10, sandboxer.StateReady: 240, sandboxer.StateActive: 360,
				sandboxer.StateDestroying: 2, // the look before and the look after
			},
			Held: 612, Costs: []sandboxer.Amount{},
		}
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Errorf("meter (-want +got):\n%s", diff)
		}
	})
}

func TestUsageByAnUnknownGroup(t *testing.T) {
	_, err := newWorld(t).client(process{}).Usage(t.Context(), "planet", sandboxer.Window{})
	wantError(t, err, "usage", sandboxer.ErrInvalid)
}

func TestAmountsAreWrittenExactly(t *testing.T) {
	for micros, want := range map[int64]string{0: "0.000000 EUR", 1: "0.000001 EUR", 12_345_678: "12.345678 EUR", -1_500_000: "-1.500000 EUR"} {
		if got := (sandboxer.Amount{Currency: "EUR", Micros: micros}).String(); got != want {
			t.Errorf("%d is written %q, want %q", micros, got, want)
		}
	}
}
