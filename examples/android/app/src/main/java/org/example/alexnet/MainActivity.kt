package org.example.alexnet

import android.graphics.ImageDecoder
import android.net.Uri
import android.os.Bundle
import android.widget.Button
import android.widget.LinearLayout
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.PickVisualMediaRequest
import androidx.activity.result.contract.ActivityResultContracts.PickVisualMedia
import java.util.concurrent.Executors

/** One button, which picks a picture, and its five most probable classes. */
class MainActivity : ComponentActivity() {
    private val background = Executors.newSingleThreadExecutor()
    private lateinit var classifier: Classifier
    private lateinit var answer: TextView
    private val pick = registerForActivityResult(PickVisualMedia()) { if (it != null) show(it) }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        background.execute { classifier = Classifier(this) }
        answer = TextView(this)
        val button = Button(this).apply {
            text = "Pick a picture"
            setOnClickListener { pick.launch(PickVisualMediaRequest(PickVisualMedia.ImageOnly)) }
        }
        setContentView(
            LinearLayout(this).apply {
                orientation = LinearLayout.VERTICAL
                addView(button)
                addView(answer)
            }
        )
    }

    private fun show(picture: Uri) = background.execute {
        val best = classifier.classify(ImageDecoder.createSource(contentResolver, picture))
        val lines = best.joinToString("\n") { (name, probability) -> "%.4f  %s".format(probability, name) }
        runOnUiThread { answer.text = lines }
    }

    override fun onDestroy() {
        background.execute { classifier.close() }
        background.shutdown()
        super.onDestroy()
    }
}
