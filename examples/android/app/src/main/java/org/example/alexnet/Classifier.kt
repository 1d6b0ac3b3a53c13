package org.example.alexnet

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.ImageDecoder
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier
import java.io.Closeable
import java.io.File
import java.util.zip.ZipFile
import org.json.JSONObject

/**
 * Classifies pictures by the file that `alexnet convert` wrote, which lies in `src/main/assets/` as
 * `alexnet.tflite`. MediaPipe takes labels and types from the file; the crop is this class's part:
 * the shorter side is scaled to `resize` and the central square of `image_size` pixels is handed
 * over. Both stand in the file, so that another network of colour needs no other code, and so does
 * the probability that a class has to reach. MediaPipe takes no grey network, and does not look
 * whether the file is whole: try it by `alexnet classify` before it goes into the app.
 */
class Classifier(context: Context) : Closeable {
    private val resize: Int
    private val side: Int
    private val least: Float
    private val mediapipe: ImageClassifier

    init {
        val manifest = manifest(context)
        val pixels = manifest.getJSONObject("preprocessing")
        resize = pixels.getInt("resize")
        side = pixels.getInt("image_size")
        least = manifest.optDouble("min_probability", 0.0).toFloat()
        val options = ImageClassifier.ImageClassifierOptions.builder()
            .setBaseOptions(BaseOptions.builder().setModelAssetPath(FILE).build())
            .setMaxResults(5)
            .build()
        mediapipe = ImageClassifier.createFromOptions(context, options)
    }

    /**
     * The five most probable classes, best first, each with its probability; "none of these" before
     * them where the best is less probable than the file wants.
     */
    fun classify(picture: ImageDecoder.Source): List<Pair<String, Float>> {
        val image = BitmapImageBuilder(centralSquare(picture)).build()
        val categories = mediapipe.classify(image).classificationResult().classifications()[0]
        val answers = categories.categories().map { it.categoryName() to it.score() }
        val best = answers.firstOrNull() ?: return answers
        if (best.second >= least) return answers
        return listOf("none of these" to 1 - best.second) + answers.dropLast(1)
    }

    /** Decodes upright, at the size that is asked for, and cuts: MediaPipe has nothing to scale. */
    private fun centralSquare(picture: ImageDecoder.Source): Bitmap {
        val scaled = ImageDecoder.decodeBitmap(picture) { decoder, info, _ ->
            val shorter = minOf(info.size.width, info.size.height)
            decoder.setTargetSize(
                maxOf(resize, Math.round(info.size.width * resize.toFloat() / shorter)),
                maxOf(resize, Math.round(info.size.height * resize.toFloat() / shorter)),
            )
            decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE // MediaPipe reads its pixels
        }
        val left = (scaled.width - resize) / 2 + (resize - side) / 2
        val top = (scaled.height - resize) / 2 + (resize - side) / 2
        val square = Bitmap.createBitmap(side, side, Bitmap.Config.ARGB_8888)
        Canvas(square).apply {
            drawColor(Color.WHITE) // what is transparent lies on white, as in training
            drawBitmap(scaled, -left.toFloat(), -top.toFloat(), null)
        }
        return square
    }

    /** The `manifest.json` in the zip archive at the end of the file. */
    private fun manifest(context: Context): JSONObject {
        val copy = File(context.cacheDir, FILE)
        context.assets.open(FILE).use { from -> copy.outputStream().use { from.copyTo(it) } }
        try {
            ZipFile(copy).use { archive ->
                val stream = archive.getInputStream(archive.getEntry("manifest.json"))
                return JSONObject(stream.bufferedReader().readText())
            }
        } finally {
            copy.delete()
        }
    }

    override fun close() = mediapipe.close()

    private companion object {
        const val FILE = "alexnet.tflite"
    }
}
