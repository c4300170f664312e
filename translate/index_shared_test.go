package translate_test

import (
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

func TestIndexIsShared(t *testing.T) {
	tr := translate.NewTranslator(1)
	first := config.NewBuilder(nil).Mesh()
	ix := tr.Index(first)
	if ix.Mesh() != first || tr.Index(first) != ix {
		t.Fatal("one Mesh has two Indexes")
	}
	for range 10 {
		m := config.NewBuilder(nil).Mesh()
		if got := tr.Index(m); got == ix || got.Mesh() != m || tr.Index(m) != got {
			t.Fatal("another Mesh has not its own Index")
		}
	}
	if tr.Index(first) == ix {
		t.Error("a Mesh of long ago is still remembered")
	}
}
