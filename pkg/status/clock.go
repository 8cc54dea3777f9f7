package status

import (
	"fmt"
	"slices"
	"time"

	"chargegate/pkg/event"
)

// enoughSources is how many must answer so that one may fail.
const enoughSources = 2

const (
	timePortAdvice   = "Is UDP port 123 open from this box to the Internet? Run: chronyc sources. After a power cut it takes a minute or two."
	chronydAdvice    = "Run: sudo systemctl restart chrony. If it ends again, systemctl status chrony says why."
	noSourceAdvice   = "Is /etc/chrony/chrony.conf ours (README)? Run: chronyc sources."
	addSourceAdvice  = "a line \"server NAME iburst\" in a file of /etc/chrony/sources.d that ends in .sources, then: sudo chronyc reload sources."
	kernelAdvice     = "Run: timedatectl. It must say: System clock synchronized: yes. After a power cut it takes a minute or two."
	kernelFileAdvice = "Run: sudo install -D -m 644 /usr/share/doc/chargegate/kernel-clock.conf /etc/systemd/system/chargegated.service.d/kernel-clock.conf; sudo systemctl daemon-reload; sudo systemctl restart chargegated."
)

// chronydAtFault reports whether it is chronyd, and no source of it, that keeps the
// time from being known: the relay of the time says so.
func chronydAtFault(c Clock) bool {
	switch c.Reason {
	case "chronyd does not run", "chronyd does not answer", "chronyd gives no usable answer":
		return true
	}
	return false
}

// ownFault reports whether no time is known for a reason in this box itself, which
// the uplink has nothing to do with.
func ownFault(c Clock) bool {
	return chronydAtFault(c) || c.Reason == kernelUnreadable || c.Source != "kernel" && c.Sources != nil && len(c.Sources) == 0
}

// kernelUnreadable is what the relay of the time says when the unit keeps it from
// asking the kernel.
const kernelUnreadable = "this service may not read the kernel's clock (kernel-clock.conf)"

// checkClock: no time is better than a wrong one, but without time no charger
// can authenticate (Z-11).
func checkClock(c Clock) finding {
	if !c.Synchronised {
		return clockUnknown(c)
	}
	found := fmt.Sprintf("right to within %s; stratum %d, following %s", event.Duration(c.RootDistance.Duration()), c.Stratum, followed(c))
	if len(c.Sources) > 0 {
		found += fmt.Sprintf("; %s", answering(c.Sources))
	}
	if step := c.LastStep; step != nil {
		found += fmt.Sprintf("; set by %s %s ago", event.Duration(step.By.Duration()), event.Duration(time.Since(step.At).Round(time.Second)))
	}
	var wrong []string
	for _, t := range c.Sources {
		if t.State == "falseticker" {
			wrong = append(wrong, t.Called())
		}
	}
	answer := countAnswering(c.Sources)
	switch {
	case len(wrong) > 0:
		return warn("The others outvote it. If it lasts, take it out of chrony's configuration (/etc/chrony), or tell whoever runs it.",
			"%s; contradicted by %s", found, listed(wrong))
	case answer < min(enoughSources, len(c.Sources)):
		return warn("The time is kept for some hours without any. Run: chronyc sources. Does the site's firewall let UDP port 123 out to all of them?", "%s", found)
	case len(c.Sources) > 0 && len(c.Sources) < enoughSources:
		return warn("With one source alone nobody notices when it is wrong or away. Add others: "+addSourceAdvice, "%s", found)
	}
	return pass("%s", found)
}

// clockUnknown says why chargers are given no time.
func clockUnknown(c Clock) finding {
	found := "this box does not know the time, so chargers are given none: " + orElse(c.Reason, "the clock is not synchronised")
	switch {
	case c.Reason == kernelUnreadable:
		return fail(kernelFileAdvice, "%s", found)
	case c.Source == "kernel":
		return fail(kernelAdvice, "%s", found)
	case chronydAtFault(c):
		return fail(chronydAdvice, "%s", found)
	case c.Sources == nil:
		return fail(timePortAdvice, "%s", found)
	case len(c.Sources) == 0:
		return fail(noSourceAdvice, "%s; chronyd has no source", found)
	}
	switch n := contradicting(c.Sources); {
	case n == 2:
		return fail("Add a third: "+addSourceAdvice, "%s; its 2 sources contradict each other", found)
	case n > 2:
		return fail("Take out the wrong ones, or add another: "+addSourceAdvice, "%s; its %d sources contradict one another", found, n)
	}
	found += "; " + answering(c.Sources)
	switch {
	case turning(c):
		return fail(fmt.Sprintf("The clock is off by %s and is being turned slowly. To set it at once: sudo chronyc makestep.",
			event.Duration(c.Offset.Duration().Abs().Round(time.Second))), "%s", found)
	case countAnswering(c.Sources) > 0:
		return fail("Its sources are being compared; after a power cut that takes a minute or two. If it lasts, run: chronyc sources. Those marked x or ? are not believed.", "%s", found)
	}
	return fail(timePortAdvice, "%s", found)
}

// followed names the source that is followed.
func followed(c Clock) string {
	if i := slices.IndexFunc(c.Sources, func(t TimeSource) bool { return t.State == "selected" }); i >= 0 {
		return c.Sources[i].Called()
	}
	return orElse(c.RefID, "an unnamed source")
}

// contradicting returns how many sources answer if chronyd believes none of them
// because they disagree, else 0.
func contradicting(sources []TimeSource) (n int) {
	for _, t := range sources {
		switch {
		case t.State == "falseticker":
			n++
		case t.Answers():
			return 0
		}
	}
	if n < 2 {
		return 0
	}
	return n
}

// turning reports whether the time is known, and the clock on its way to it:
// chronyd sets it at its first few measurements only.
func turning(c Clock) bool {
	return c.Offset.Duration().Abs() > time.Second && 2*c.Offset.Duration().Abs() > c.RootDistance.Duration() &&
		slices.ContainsFunc(c.Sources, func(t TimeSource) bool { return t.State == "selected" && t.Answers() })
}

func countAnswering(sources []TimeSource) (n int) {
	for _, t := range sources {
		if t.Answers() {
			n++
		}
	}
	return n
}

// answering says how many sources answer.
func answering(sources []TimeSource) string {
	switch n := countAnswering(sources); {
	case n == 0 && len(sources) == 1:
		return "its only source does not answer"
	case n == 0:
		return fmt.Sprintf("none of %d sources answers", len(sources))
	default:
		return fmt.Sprintf("%d of %s", n, plural(len(sources), "source answers", "sources answer"))
	}
}
