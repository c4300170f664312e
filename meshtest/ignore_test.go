package meshtest

import (
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// An ignore holds until the end of its last day; from then on the finding and
// the ignore are both reported.
func TestIgnoreEnds(t *testing.T) {
	ignores := []Ignore{{Code: "SubsetEmpty", Reason: "v3 comes", Until: "2026-12-31", At: "a.yaml:7"}}
	for day, ended := range map[string]bool{
		"2026-12-30T00:00:00Z": false, "2026-12-31T23:59:59Z": false, "2027-01-01T00:00:00Z": true, "2030-01-01T00:00:00Z": true,
	} {
		now, err := time.Parse(time.RFC3339, day)
		if err != nil {
			t.Fatal(err)
		}
		list := Apply([]Finding{{Problem: config.Problem{Code: "SubsetEmpty", File: "a.yaml", Line: 8}}}, ignores, now)
		if !ended {
			if len(list) != 1 || list[0].Ignored != "v3 comes" {
				t.Errorf("%s: %+v", day, list)
			}
			continue
		}
		if len(list) != 2 || list[0].Code != "IgnoreInvalid" || list[0].Line != 7 || !strings.Contains(list[0].Message, "has ended on 2026-12-31") ||
			list[1].Code != "SubsetEmpty" || list[1].Ignored != "" {
			t.Errorf("%s: %+v", day, list)
		}
	}
}
