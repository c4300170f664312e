package translate_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/translate"
)

const supportPage = "../docs/support.md"

// TestSupportPage holds docs/support.md to the field tables; -update writes it.
func TestSupportPage(t *testing.T) {
	page := supportMarkdown()
	if *update {
		if err := os.WriteFile(supportPage, page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(supportPage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, page) {
		t.Errorf("%s is not what the field tables say: go test ./translate -run SupportPage -update", supportPage)
	}
}

func supportMarkdown() []byte {
	var b bytes.Buffer
	tables := translate.Tables()
	supported, unsupported := 0, 0
	for _, table := range tables {
		for _, f := range table.Fields {
			if f.Unsupported == "" {
				supported++
			} else {
				unsupported++
			}
		}
	}
	fmt.Fprintf(&b, `# What of Istio's API is supported

Made from the field tables of package translate, which validation reads too; do not edit. Of %d
fields %d are supported. Each names the case under translate/testdata that proves it, or the package that
applies it. A field that is not supported has no effect, says why here, and is reported when it is
used.
`, supported+unsupported, supported)
	for _, table := range tables {
		fmt.Fprintf(&b, "\n## %s\n\n| field | what applies it | case |\n|---|---|---|\n", strings.TrimPrefix(string(table.Message), "istio."))
		for _, f := range table.Fields {
			if f.Unsupported != "" {
				fmt.Fprintf(&b, "| %s | **not supported**: %s | |\n", f.Name, f.Unsupported)
				continue
			}
			if f.Elsewhere != "" {
				fmt.Fprintf(&b, "| %s | %s | package [%s](../%s) |\n", f.Name, f.Feature, f.Elsewhere, f.Elsewhere)
				continue
			}
			fmt.Fprintf(&b, "| %s | %s | [%s](../translate/testdata/%s.txtar) |\n", f.Name, f.Feature, f.Case, f.Case)
		}
	}
	return b.Bytes()
}
