import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.tensorflow.framework.DataType;
import org.tensorflow.framework.TensorProto;
import org.tensorflow.framework.TensorShapeProto;
import tensorflow.serving.Model.ModelSpec;
import tensorflow.serving.Predict.PredictRequest;
import tensorflow.serving.Predict.PredictResponse;
import tensorflow.serving.PredictionServiceGrpc;

/**
 * Asks a server, alexnet serve or TensorFlow Serving, over gRPC. The messages are generated from the
 * protos that TensorFlow Serving publishes; docs/clients.md says how.
 *
 * <pre>java Classify 127.0.0.1:8500 flower.jpg</pre>
 */
public final class Classify {
  public static void main(String[] arguments) throws Exception {
    TensorProto picture =
        TensorProto.newBuilder()
            .setDtype(DataType.DT_STRING)
            .setTensorShape(
                TensorShapeProto.newBuilder().addDim(TensorShapeProto.Dim.newBuilder().setSize(1)))
            .addStringVal(ByteString.copyFrom(Files.readAllBytes(Path.of(arguments[1]))))
            .build();
    PredictRequest request =
        PredictRequest.newBuilder()
            .setModelSpec(ModelSpec.newBuilder().setName("alexnet"))
            .putInputs("image_bytes", picture)
            .addOutputFilter("names")
            .addOutputFilter("scores")
            .build();
    ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    try {
      PredictResponse answer =
          PredictionServiceGrpc.newBlockingStub(channel)
              .withDeadlineAfter(30, TimeUnit.SECONDS)
              .predict(request);
      TensorProto names = answer.getOutputsOrThrow("names");
      TensorProto scores = answer.getOutputsOrThrow("scores");
      for (int place = 0; place < names.getStringValCount(); place++) {
        System.out.printf(
            "%.4f  %s%n", scores.getFloatVal(place), names.getStringVal(place).toStringUtf8());
      }
    } finally {
      channel.shutdown().awaitTermination(5, TimeUnit.SECONDS);
    }
  }
}
