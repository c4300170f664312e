package inject

import (
	"encoding/json"
	"fmt"

	"istio.io/api/annotation"
)

// status is what annotation sidecar.istio.io/status says was injected.
type status struct {
	InitContainers   []string `json:"initContainers"`
	Containers       []string `json:"containers"`
	Volumes          []string `json:"volumes"`
	ImagePullSecrets []string `json:"imagePullSecrets"`
	Revision         string   `json:"revision"`
}

func names(o Object, list string) []string {
	var out []string
	for _, e := range objects(o, list) {
		out = append(out, text(e, "name"))
	}
	return out
}

// putStatus notes what was injected, for tools and for the next injection.
func (in *Injector) putStatus(out, injected Object) error {
	s := spec(injected)
	st := status{
		InitContainers: names(s, initList), Containers: names(s, containersList),
		Volumes: names(s, "volumes"), ImagePullSecrets: names(s, "imagePullSecrets"), Revision: in.revision,
	}
	if st.Revision == "" {
		st.Revision = "default"
	}
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	annotations(out)[annotation.SidecarStatus.Name] = string(b)
	return nil
}

// stripped takes back an earlier injection: containers, volumes, probes and
// scraping are again what the user wrote. A status that does not parse is not
// from an injector, and means nothing.
func stripped(pod Object) error {
	written, ok := annotationOf(pod, annotation.SidecarStatus.Name)
	var st status
	if !ok || json.Unmarshal([]byte(written), &st) != nil {
		return nil
	}
	if proxy := proxyOf(pod); proxy != nil {
		restoreProbes(pod, proxy)
		restoreScraping(pod, proxy)
	}
	s := spec(pod)
	for list, injected := range map[string][]string{
		containersList: st.Containers, initList: st.InitContainers,
		"volumes": st.Volumes, "imagePullSecrets": st.ImagePullSecrets,
	} {
		left := objects(s, list)
		for _, name := range injected {
			left = withoutNamed(left, name)
		}
		setObjects(s, list, left)
	}
	delete(annotations(pod), annotation.SidecarStatus.Name)
	if written, ok = annotationOf(pod, annotation.ProxyOverrides.Name); !ok {
		return nil
	}
	own, err := readObject([]byte(written))
	if err != nil {
		return fmt.Errorf("annotation %s is %q; want what an injection wrote there: %w", annotation.ProxyOverrides.Name, shortened(written), err)
	}
	delete(annotations(pod), annotation.ProxyOverrides.Name)
	setObjects(s, containersList, append(objects(s, containersList), objects(own, containersList)...))
	setObjects(s, initList, append(objects(s, initList), objects(own, initList)...))
	return nil
}
