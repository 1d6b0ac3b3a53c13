// Asks a server, alexnet serve or TensorFlow Serving, over gRPC. The messages are generated from the
// protos that TensorFlow Serving publishes; docs/clients.md says how.
//
//	go run classify.go 127.0.0.1:8500 flower.jpg
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	framework "example.org/alexnet/gen/tensorflow/core/framework"
	apis "example.org/alexnet/gen/tensorflow_serving/apis"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: classify HOST:PORT PICTURE")
	}
	picture, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	answer, err := apis.NewPredictionServiceClient(connection).Predict(ctx, &apis.PredictRequest{
		ModelSpec: &apis.ModelSpec{Name: "alexnet"},
		Inputs: map[string]*framework.TensorProto{
			"image_bytes": {
				Dtype: framework.DataType_DT_STRING,
				TensorShape: &framework.TensorShapeProto{
					Dim: []*framework.TensorShapeProto_Dim{{Size: 1}},
				},
				StringVal: [][]byte{picture},
			},
		},
		OutputFilter: []string{"names", "scores"},
	})
	if err != nil {
		log.Fatal(err)
	}
	scores := answer.Outputs["scores"].FloatVal
	for place, name := range answer.Outputs["names"].StringVal {
		fmt.Printf("%.4f  %s\n", scores[place], name)
	}
}
