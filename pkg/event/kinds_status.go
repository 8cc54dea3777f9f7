package event

// What the status room says.
var (
	StatusMetricsFailed = &Kind{
		ID: "status-metrics-failed", Level: Warning,
		Text:    "the metrics could not be given in full: {ERROR}",
		Explain: "One of the parts that are counted gave numbers that do not fit together. The other metrics were given.",
		Advice:  "Send this line to whoever maintains this box: it is a defect in chargegate.",
		Every:   hour,
	}
	StatusHTTPFault = &Kind{
		ID: "status-http-fault", Level: Debug,
		Text:    "a question to the noticeboard went wrong: {ERROR}",
		Explain: "Whoever asked over HTTP broke off or spoke another protocol.",
		Every:   minute,
	}
	DoctorFinished = &Kind{
		ID: "doctor-finished", Level: Info,
		Text:    "the self-test is finished: {OK} ok, {WARN} to look at, {FAIL} failed ({FAILED})",
		Explain: "Somebody ran chargegate doctor. What it found is on their screen; the names of the checks that failed are here.",
	}
)

var statusKinds = []*Kind{StatusMetricsFailed, StatusHTTPFault, DoctorFinished}
