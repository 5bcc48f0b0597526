// Command read reads files that are written for other programs with those programs'
// own parsers, and prints what they say as JSON, for a test to compare with the
// product. It is a module of its own, so that the product depends on none of them.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/prometheus/prometheus/model/labels"
	promql "github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "read:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("write: read dockerfile|yaml|rules FILE")
	}
	f, err := os.Open(args[1])
	if err != nil {
		return err
	}
	defer f.Close()
	var v any
	switch args[0] {
	case "dockerfile":
		v, err = dockerfile(f)
	case "yaml":
		err = yaml.NewDecoder(f).Decode(&v)
	case "rules":
		v, err = rules(f)
	default:
		err = fmt.Errorf("nothing reads %q", args[0])
	}
	if err != nil {
		return fmt.Errorf("%s: %w", args[1], err)
	}
	return json.NewEncoder(out).Encode(v)
}

// An instruction is one of a Dockerfile.
type instruction struct {
	Name  string   `json:"name"`  // in lower case
	Flags []string `json:"flags"` // --from=build
	Args  []string `json:"args"`
	JSON  bool     `json:"json"` // the arguments were written as a JSON array: no shell
}

func dockerfile(r io.Reader) ([]instruction, error) {
	parsed, err := parser.Parse(r)
	if err != nil {
		return nil, err
	}
	if len(parsed.Warnings) > 0 {
		return nil, fmt.Errorf("%s", parsed.Warnings[0].Short)
	}
	all := []instruction{}
	for _, n := range parsed.AST.Children {
		i := instruction{Name: n.Value, Flags: n.Flags, JSON: n.Attributes["json"]}
		for a := n.Next; a != nil; a = a.Next {
			i.Args = append(i.Args, a.Value)
		}
		all = append(all, i)
	}
	return all, nil
}

// A rule is an alert, and the names of the metrics that it is about.
type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Metrics     []metric          `json:"metrics"`
}

type metric struct {
	Name   string              `json:"name"`
	Labels map[string][]string `json:"labels"` // by name, the values that are asked for
}

func rules(r io.Reader) ([]rule, error) {
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	d := yaml.NewDecoder(r)
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		return nil, err
	}
	p := promql.NewParser(promql.Options{})
	var all []rule
	for _, g := range file.Groups {
		for _, one := range g.Rules {
			expr, err := p.ParseExpr(one.Expr)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", one.Alert, err)
			}
			out := rule{Alert: one.Alert, Expr: one.Expr, For: one.For, Labels: one.Labels, Annotations: one.Annotations}
			promql.Inspect(expr, func(n promql.Node, _ []promql.Node) error {
				if v, ok := n.(*promql.VectorSelector); ok {
					m := metric{Name: v.Name, Labels: map[string][]string{}}
					for _, l := range v.LabelMatchers {
						if l.Name != labels.MetricName {
							m.Labels[l.Name] = append(m.Labels[l.Name], strings.Split(l.Value, "|")...)
						}
					}
					out.Metrics = append(out.Metrics, m)
				}
				return nil
			})
			all = append(all, out)
		}
	}
	return all, nil
}
