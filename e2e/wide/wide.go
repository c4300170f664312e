// Package wide writes the mesh on which commands and their parts are measured.
package wide

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Services is how many there are.
const Services = 1000

// Write writes a mesh of 1,000 services with a VirtualService, a
// DestinationRule and a pod each into a folder: 4,000 documents in 1,000
// files. One route in the middle has the given timeout, the others 3s.
func Write(dir, timeout string) error {
	for i := range Services {
		wait := "3s"
		if i == Services/2 {
			wait = timeout
		}
		text := strings.NewReplacer("NAME", Name(i), "SPACE", Namespace(i), "WAIT", wait).Replace(documents)
		if err := os.WriteFile(filepath.Join(dir, Name(i)+".yaml"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Name is that of a service.
func Name(i int) string { return fmt.Sprintf("s%d", i) }

// Namespace is where a service is.
func Namespace(i int) string { return fmt.Sprintf("ns-%d", i%20) }

const documents = `apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: SPACE}
spec:
  selector: {app: NAME}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: NAME-1, namespace: SPACE, labels: {app: NAME, version: v1}}
spec: {containers: [{name: app, image: example.com/app:1}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME, namespace: SPACE}
spec:
  hosts: [NAME]
  http:
  - name: qa
    match: [{headers: {x-user: {exact: qa}}}]
    route: [{destination: {host: NAME, subset: v1}}]
  - name: all
    route: [{destination: {host: NAME}}]
    timeout: WAIT
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: NAME, namespace: SPACE}
spec:
  host: NAME
  subsets: [{name: v1, labels: {version: v1}}]
`
