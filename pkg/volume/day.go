package volume

import "time"

// A Date is a day of the calendar where the box stands: days since 1970-01-01,
// which is 0 and never used.
type Date int32

// DateOf is the day of a moment, in local time.
func DateOf(t time.Time) Date {
	y, m, d := t.Local().Date()
	return Date(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / (24 * 60 * 60))
}

const dateForm = "2006-01-02"

// String writes 2026-11-21.
func (d Date) String() string { return time.Unix(int64(d)*24*60*60, 0).UTC().Format(dateForm) }

// parseDate reads what String writes, and nothing else.
func parseDate(s string) (Date, bool) {
	t, err := time.Parse(dateForm, s)
	if err != nil {
		return 0, false
	}
	d := Date(t.Unix() / (24 * 60 * 60))
	return d, d > 0 && d.String() == s
}
