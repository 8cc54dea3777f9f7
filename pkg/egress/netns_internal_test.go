package egress

import "os"

// insideEnv marks the test binary that runs in namespaces of its own.
const insideEnv = "CHARGEGATE_EGRESS_INSIDE"

func inside() bool { return os.Getenv(insideEnv) != "" }
