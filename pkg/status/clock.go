package status

import (
	"fmt"
	"slices"
	"time"

	"chargegate/pkg/event"
)

// chronydAway is what the relay of the time says when nobody listens on chronyd's
// command port.
const chronydAway = "chronyd does not run"

const (
	// enoughSources is how many must answer so that one may fail.
	enoughSources  = 2
	timePortAdvice = "Is UDP port 123 open from this box to the Internet? Run: chronyc sources. After a power cut it takes a minute or two."
)

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
	case len(c.Sources) > 0 && len(c.Sources) < enoughSources:
		return warn("With one source alone nobody notices when it is wrong or away. Add others: a line \"server NAME iburst\" in a file of /etc/chrony/sources.d that ends in .sources, then: chronyc reload sources.", "%s", found)
	case len(c.Sources) > 0 && answer < enoughSources:
		return warn("The time is kept for some hours without any. Run: chronyc sources. Does the site's firewall let UDP port 123 out to all of them?", "%s", found)
	}
	return pass("%s", found)
}

// clockUnknown says why chargers are given no time.
func clockUnknown(c Clock) finding {
	found := "this box does not know the time, so chargers are given none: " + orElse(c.Reason, "the clock is not synchronised")
	if len(c.Sources) > 0 {
		found += "; " + answering(c.Sources)
	}
	switch {
	case c.Reason == chronydAway:
		return fail("Run: systemctl restart chrony. If it ends again, systemctl status chrony says why.", "%s", found)
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
