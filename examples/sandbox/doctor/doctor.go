// Package doctor turns what is known of a set-up into findings: what is well,
// what is not, and what to do about it.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// A Level says how much a finding matters.
type Level string

// The three levels.
const (
	OK      Level = "ok"      // nothing to do
	Warning Level = "warning" // sandboxes work; something is weaker than it could be
	Failure Level = "failure" // something does not work
)

// A Finding is one thing that was looked at.
type Finding struct {
	Subject string `json:"subject"` // what was looked at, such as a host
	Level   Level  `json:"level"`
	Detail  string `json:"detail"`
	Fix     string `json:"fix,omitempty"` // what to do about it
}

// A Diagnosis is everything that was looked at, in the order of looking.
type Diagnosis struct {
	Findings []Finding `json:"findings"`
}

// Add appends a finding.
func (d *Diagnosis) Add(subject string, level Level, fix, format string, args ...any) {
	d.Findings = append(d.Findings, Finding{Subject: subject, Level: level, Detail: fmt.Sprintf(format, args...), Fix: fix})
}

// AddError appends a failure with the hint that err carries, if there is one.
func (d *Diagnosis) AddError(subject string, err error) {
	d.Add(subject, Failure, sandboxer.Hint(err), "%s", err)
}

// Worst is the highest level of all findings.
func (d *Diagnosis) Worst() Level {
	worst := OK
	for _, f := range d.Findings {
		if f.Level == Failure || worst == OK {
			worst = f.Level
		}
	}
	return worst
}

// Wanting are the subjects, each once, that something is to be done about.
func (d *Diagnosis) Wanting() []string {
	var out []string
	for _, f := range d.Findings {
		if f.Level != OK && !slices.Contains(out, f.Subject) {
			out = append(out, f.Subject)
		}
	}
	return out
}

// AddHosts appends what hosts said of themselves.
func (d *Diagnosis) AddHosts(statuses []sandboxer.HostStatus) {
	for _, s := range statuses {
		subject := "host " + s.Host.Name
		if !s.Available {
			d.Add(subject, Failure, s.Hint, "%s", s.Reason)
			continue
		}
		d.Add(subject, OK, "", "%s", capabilities(s))
		if s.Cordoned {
			d.Add(subject, Warning, "sandbox hosts uncordon "+s.Host.Name, "is cordoned: it takes no new sandboxes")
		}
		if s.Host.Slots > 0 && s.Sandboxes >= s.Host.Slots {
			d.Add(subject, Warning, "destroy what is not used, or raise slots in its configuration", "all %d slots are taken", s.Host.Slots)
		}
		if s.Facts["firewall"] == "open" {
			d.Add(subject, Warning, "sandbox hosts harden "+s.Host.Name+", as root of the host, after each boot",
				"its firewall is open: sandboxes whose egress is allowed reach its services and a cloud's metadata, others may send it broadcasts")
		}
		for _, w := range s.Warnings {
			text, remedy, _ := strings.Cut(w, "\n")
			d.Add(subject, Warning, remedy, "%s", text)
		}
	}
}

func capabilities(s sandboxer.HostStatus) string {
	said := []string{s.Host.Address, "engine " + cmp.Or(s.Facts["engine"], "unknown"), "compose " + cmp.Or(s.Facts["compose"], "unknown")}
	var isolation []string
	for _, i := range s.Isolation {
		isolation = append(isolation, string(i))
	}
	said = append(said, "isolation "+cmp.Or(strings.Join(isolation, " and "), "none"), "firewall "+cmp.Or(s.Facts["firewall"], "unknown"))
	if s.Host.Slots > 0 {
		return strings.Join(append(said, fmt.Sprintf("%d of %d slots free", max(0, s.Host.Slots-s.Sandboxes), s.Host.Slots)), ", ")
	}
	return strings.Join(append(said, fmt.Sprintf("%d sandboxes", s.Sandboxes)), ", ")
}

// AddSandboxes appends how many sandboxes there are, and those that need somebody.
func (d *Diagnosis) AddSandboxes(all []sandboxer.Sandbox) {
	live := slices.DeleteFunc(slices.Clone(all), func(s sandboxer.Sandbox) bool { return s.State.Terminal() })
	d.Add("sandboxes", OK, "", "%d recorded that are not destroyed", len(live))
	for _, s := range live {
		subject := "sandbox " + s.ID
		switch {
		case s.State == sandboxer.StateFailed:
			d.Add(subject, Warning, "sandbox destroy "+s.ID, "failed: %s", s.Message)
		case s.State == sandboxer.StateLost:
			d.Add(subject, Warning, "sandbox reconcile, when its host is back", "lost: %s", s.Message)
		case s.Removal != nil && len(s.Removal.Residue) > 0:
			d.Add(subject, Warning, "sandbox destroy "+s.ID, "its removal left %d things", len(s.Removal.Residue))
		}
	}
}
