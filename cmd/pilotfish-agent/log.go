package main

import (
	"fmt"
	"os"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logger writes to standard error, beside Envoy.
func (f *logFlags) logger() (*zap.Logger, error) {
	level := zapcore.InfoLevel
	for _, part := range strings.Split(f.level, ",") {
		scope, l, ok := strings.Cut(part, ":")
		if !ok {
			scope, l = "default", part
		}
		if scope != "default" && scope != "all" {
			continue // the agent has one scope
		}
		switch l = strings.TrimSpace(l); l {
		case "none":
			return zap.NewNop(), nil
		case "fatal":
			level = zapcore.ErrorLevel
		default:
			parsed, err := zapcore.ParseLevel(l)
			if err != nil {
				return nil, fmt.Errorf("--log_output_level %q: want debug, info, warn, error, fatal or none", f.level)
			}
			level = parsed
		}
	}
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	c.TimeKey = "time"
	enc := zapcore.NewConsoleEncoder(c)
	if f.asJSON {
		enc = zapcore.NewJSONEncoder(c)
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(os.Stderr), level)), nil
}
