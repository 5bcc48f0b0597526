package templates

import (
	"strings"
	"time"
)

// CodesFile is the text file that "Download" gives of backup codes. It says whose
// they are: people find it again years later.
type CodesFile struct {
	Email string
	Made  time.Time
	Codes []string
	UseAt string // where they are entered
}

// Text is the file. Its lines end as those of every system can be read.
func (f CodesFile) Text() (string, error) {
	words := english()
	var b strings.Builder
	for _, key := range []string{"codes_file.title", "codes_file.made", "codes_file.use"} {
		line, err := words.T(key, "email", f.Email, "date", f.Made.UTC().Format("2006-01-02"), "url", f.UseAt)
		if err != nil {
			return "", err
		}
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	for _, code := range f.Codes {
		b.WriteString(code + "\r\n")
	}
	return b.String(), nil
}
