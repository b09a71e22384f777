package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"stead/runtime/status"
	"stead/spec"
)

// lookAgain is how often a pass looks for a local image that nothing declares. The verbs that
// make images wake the daemon.
const lookAgain = 10 * time.Second

// imageWait is an action that waits for an image.
type imageWait struct {
	Action
	image string
	at    *spec.Error // the position of rootfs.image
}

// awaitsImage reports whether an action has to wait until the image of the container's root is
// complete, and notes that it is needed. What runs goes on until then.
func (p *planner) awaitsImage(a Action) bool {
	switch a.Verb {
	case Create, Start, Restart, Rename:
	default:
		return false
	}
	name := a.Name
	if a.Old != "" {
		name = a.Old
	}
	st, s := Find(p.observed, name), a.Spec
	if s == nil && st != nil {
		s = st.Applied
	}
	if s == nil || s.Spec.Rootfs.Image == "" || p.Stored == nil || s.Spec.Suspend || st != nil && st.StoppedAt != nil {
		return false
	}
	image := s.Spec.Rootfs.Image
	if _, there := p.Stored.Find(image); there || p.Stored.Digests[p.recordedDigest(a.Name, st, s)] {
		return false
	}
	w := imageWait{Action: a, image: image}
	if want := p.Lookup(a.Name); want != nil {
		w.at = want.RootAt
	}
	p.imageWaits = append(p.imageWaits, w)
	return true
}

// recordedDigest returns the digest that the image of a manifest was resolved to before: for the
// container itself, st, which may be nil; for another replica; or for the data that it left when it
// was removed. "" if it never was.
func (p *planner) recordedDigest(name string, st *status.Status, s *spec.Container) string {
	image := s.Spec.Rootfs.Image
	if st != nil && st.Image != nil && st.Image.Reference == image {
		return st.Image.Digest
	}
	if s.Replica != nil {
		for _, other := range p.observed {
			if other.Applied.Group() == s.Group() && other.Image != nil && other.Image.Reference == image && p.Stored.Digests[other.Image.Digest] {
				return other.Image.Digest
			}
		}
	}
	if left, ok := p.Left[name]; ok && left.Reference == image {
		return left.Digest
	}
	return ""
}

// commandOf says what a container will run if its image says so, and not its manifest.
func (p *planner) commandOf(a Action) string {
	if a.Verb != Create || a.Spec.Spec.Rootfs.Image == "" || len(a.Spec.Spec.Command) > 0 || a.Spec.Spec.Suspend || p.Stored == nil {
		return ""
	}
	m, there := p.Stored.Find(a.Spec.Spec.Rootfs.Image)
	if !there || m.Config == nil {
		return ""
	}
	s := m.Config.Fill(a.Spec).Spec
	return fmt.Sprintf(", which runs %s as user %s", strings.Join(append(slices.Clone(s.Command), s.Args...), " "), s.User)
}

// images plans for the images that are declared or needed, and says what waits for them.
func (p *planner) images() {
	if p.Stored == nil {
		return
	}
	if p.Holds.Of("") == nil {
		for name, w := range p.Desired.Images {
			if !IsStored(p.Stored, w) {
				_, there := p.Stored.ByName[name]
				p.declaredImage(name, w, there)
			}
		}
	}
	needed := map[string][]string{}
	for _, w := range p.imageWaits {
		if p.Desired.Images[w.image] == nil && spec.IsReference(w.image) {
			needed[w.image] = append(needed[w.image], w.Name)
		}
	}
	for name, by := range needed {
		p.do(Action{Verb: Pull, Subject: ImageNamed(name), Cause: "for " + someNames(by)})
	}
	for _, w := range p.imageWaits {
		p.plan.wait(p.waitFor(w))
	}
}

// declaredImage plans for an image that is missing, or was made for another source or digest.
func (p *planner) declaredImage(name string, w *WantImage, there bool) {
	a := Action{Verb: w.Verb(), Subject: ImageNamed(name), Image: w.Spec, From: w.From, Cause: "manifest " + shortName(w.From)}
	if there {
		a.Cause += " has another source or digest"
	}
	p.do(a)
}

// IsStored reports whether a declared image is here, from its source and with its digest.
func IsStored(stored *status.Images, w *WantImage) bool {
	have, there := stored.ByName[w.Spec.Metadata.Name]
	return there && have.Source == w.Spec.Spec.Source.Text() && have.Asked == w.Spec.Spec.Digest
}

// Verb returns what makes a declared image.
func (w *WantImage) Verb() Verb {
	if w.Spec.Spec.Source.Registry != "" {
		return Pull
	}
	return Import
}

// waitFor returns the wait of an action for an image.
func (p *planner) waitFor(w imageWait) Wait {
	subject, verb := ImageNamed(w.image), Pull
	out := Wait{Subject: w.Subject, Verb: w.Verb, Image: w.image}
	declared := p.Desired.Images[w.image]
	if declared != nil {
		verb = declared.Verb()
	}
	_, busy := p.Busy[subject]
	failure, failed := p.Failures[subject]
	switch {
	case declared == nil && !spec.IsReference(w.image):
		out.Until = p.now.Add(lookAgain)
		out.Why = fmt.Sprintf("%sthere is no image %s here; stead image import %[2]s DIRECTORY makes one, a manifest of kind: Image declares one, and one of a registry is named in full", p.at(w.at), w.image)
	case !busy && failed && p.now.Before(failure.Retry()) && !p.Retry:
		out.Until = failure.Retry()
		out.Why = p.at(w.at) + fmt.Sprintf("%s of %s failed: %s", verb, w.image, failure.Message)
	default:
		out.Why = ImageProgress(p.Memory, w.image, verb)
	}
	return out
}

// ImageProgress says what is done to an image, and how far it has come.
func ImageProgress(m Memory, name string, verb Verb) string {
	text := map[Verb]string{Pull: "pulling ", Import: "importing "}[verb] + name
	if percent, known := m.Progress[ImageNamed(name)]; known {
		text += fmt.Sprintf(", %d %%", percent)
	}
	return text
}

// at prints a position in a manifest, as the beginning of a message.
func (p *planner) at(e *spec.Error) string {
	if e == nil {
		return ""
	}
	short := *e
	short.File = p.ShortPath(e.File)
	return short.Error() + ": "
}

// someNames joins the first names.
func someNames(names []string) string {
	slices.Sort(names)
	const most = 3
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// refusesImage reports whether a manifest wants another image for a container, and says that
// its private files stay as they are.
func (p *planner) refusesImage(st *status.Status, w *Want, changes []Change) bool {
	if st.Image == nil || w.Spec.Spec.Rootfs.OnImageChange != "refuse" {
		return false
	}
	changed := slices.ContainsFunc(changes, func(c Change) bool { return c.Path == "spec.rootfs.image" && c.Before != "" && c.After != "" })
	if !changed || p.Stored == nil {
		return changed
	}
	now, there := p.Stored.Find(w.Spec.Spec.Rootfs.Image)
	return !there || now.Digest != st.Image.Digest
}

// holdImage holds a change of the image; what is applied stays in force.
func (p *planner) holdImage(st *status.Status, w *Want, changes []Change) {
	p.plan.Held = append(p.plan.Held, Action{
		Verb: Hold, Waiting: Restart, Subject: ContainerNamed(st.Name), Changes: changes, From: w.From,
		Cause: "rootfs.image changes, and onImageChange: refuse keeps its private files; write onImageChange: reset for a fresh root",
	})
}

// isSuperseded reports whether an admin has the containers of its image's name move to the image
// that the name stands for now.
func (p *planner) isSuperseded(st *status.Status) bool {
	return st.Image != nil && p.Stored != nil && st.Image.Reference == st.Applied.Spec.Rootfs.Image &&
		p.Stored.Superseded(st.Image.Reference, st.Image.Digest) && p.Holds.OfContainer(st.Applied) == nil
}

// imageChange is the change to the image that the same name stands for now.
func (p *planner) imageChange(st *status.Status) Change {
	name := st.Image.Reference
	return Change{
		Path: "spec.rootfs.image", Effect: spec.NeedsRestart,
		Before: name + "@" + shortDigest(st.Image.Digest), After: name + "@" + shortDigest(p.Stored.ByName[name].Digest),
	}
}

// shortDigest returns enough of a digest for people to tell two apart.
func shortDigest(digest string) string {
	const enough = len("sha256:") + 12
	return digest[:min(len(digest), enough)]
}
