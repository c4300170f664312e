package config

// Builder makes the next Mesh from the one before. Values given to it must
// not be modified afterwards. Not safe for concurrent use; a Builder makes one
// Mesh.
type Builder struct {
	next    *Mesh
	edits   map[any]func()
	pending map[any]any
	changed bool
}

// NewBuilder starts from prev, or from an empty mesh with default settings if
// prev is nil.
func NewBuilder(prev *Mesh) *Builder {
	next := &Mesh{Settings: DefaultSettings()}
	if prev != nil {
		*next = *prev
	}
	return &Builder{next: next, edits: map[any]func(){}, pending: map[any]any{}}
}

// Put adds or replaces an object in one of the Mesh's indexes, which field
// selects: Put(b, func(m *Mesh) *Index[*Service] { return &m.Services }, s).
func Put[T Keyed](b *Builder, field func(*Mesh) *Index[T], o T) {
	ns, name := o.indexKey()
	record(b, field, indexEdit[T]{ns: ns, name: name, value: o, present: true})
}

// Remove removes an object from one of the Mesh's indexes, if it is there.
// For Services and Endpoints name is the hostname.
func Remove[T Keyed](b *Builder, field func(*Mesh) *Index[T], ns, name string) {
	record(b, field, indexEdit[T]{ns: ns, name: name})
}

func record[T Keyed](b *Builder, field func(*Mesh) *Index[T], e indexEdit[T]) {
	b.changed = true
	target := field(b.next)
	list, _ := b.pending[target].(*[]indexEdit[T])
	if list == nil {
		list = &[]indexEdit[T]{}
		b.pending[target] = list
		b.edits[target] = func() { *target = target.edit(*list) }
	}
	*list = append(*list, e)
}

// SetSettings replaces the mesh-wide settings.
func (b *Builder) SetSettings(s *Settings) {
	b.next.Settings = s
	b.changed = true
}

// SetOldestKubelet sets the Mesh's OldestKubelet.
func (b *Builder) SetOldestKubelet(minor int) {
	if b.next.OldestKubelet != minor {
		b.next.OldestKubelet = minor
		b.changed = true
	}
}

// SetProblems replaces the sources' problems.
func (b *Builder) SetProblems(p []Problem) {
	b.next.Problems = p
	b.changed = true
}

// Changed reports whether anything was put, removed or set.
func (b *Builder) Changed() bool { return b.changed }

// Mesh returns the new Mesh. The Builder must not be used afterwards.
func (b *Builder) Mesh() *Mesh {
	for _, apply := range b.edits {
		apply()
	}
	b.next.Sequence++
	return b.next
}

// Settings are those of the Mesh being built.
func (b *Builder) Settings() *Settings { return b.next.Settings }
