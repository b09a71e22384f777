package main

import (
	"embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
)

// docs holds the documentation, one Markdown file for each topic. The first line
// of a file is its title.
//
//go:embed docs/*.md
var docs embed.FS

func (a *app) docsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "docs [TOPIC]",
		Short: "Print the documentation, one topic at a time",
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return topics(), cobra.ShellCompDirectiveNoFileComp
		},
		Args: args(0, 1, "docs takes one topic"),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listTopics()
			}
			return a.printTopic(args[0])
		},
	}
}

// topics returns the names of all topics, sorted.
func topics() (names []string) {
	files, _ := docs.ReadDir("docs") // embedded: it cannot fail
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".md"))
	}
	return names
}

// readTopic returns the text of a topic.
func readTopic(name string) (string, error) {
	b, err := docs.ReadFile("docs/" + name + ".md")
	return string(b), err
}

// verbDoc returns what the topic verbs says about a verb, or "" for none.
func verbDoc(name string) string {
	text, _ := readTopic("verbs") // embedded: it cannot fail
	_, text, _ = strings.Cut(text, "\n## "+name+"\n\n")
	text, _, _ = strings.Cut(text, "\n## ")
	return strings.TrimSpace(text)
}

// listTopics prints the topics and their titles.
func (a *app) listTopics() error {
	var rows [][]string
	for _, name := range topics() {
		text, err := readTopic(name)
		if err != nil {
			return err
		}
		title, _, _ := strings.Cut(strings.TrimPrefix(text, "# "), "\n")
		rows = append(rows, []string{name, title})
	}
	return table(a.out, "TOPIC CONTENT", rows)
}

// printTopic prints the text of a topic, with the pager if there is one.
func (a *app) printTopic(name string) error {
	text, err := readTopic(name)
	if err != nil {
		return exitWith(exitUsage, "no topic %s; topics are: %s", name, strings.Join(topics(), ", "))
	}
	pager := os.Getenv("PAGER")
	if isTerminal(a.out) {
		text = withoutTables(text)
	}
	if pager == "" || !isTerminal(a.out) {
		_, err := io.WriteString(a.out, text)
		return err
	}
	file, _ := fileOf(a.out)
	cmd := exec.Command("sh", "-c", pager)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(text), file, a.err
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run the pager %s: %w", pager, err)
	}
	return nil
}
